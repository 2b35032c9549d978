// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear_cases.h"

namespace sextant::test {
TEST_CASE("linear layers on the CPU") { linear_cases(Device::kCpu); }
}  // namespace sextant::test
