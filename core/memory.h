// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sextant {

// Bytes that this process can allocate before the system starts to swap or to kill: what the kernel
// calls available, and at most what is left below the limit of its control group. 0 if unknown.
int64_t available_memory();

}  // namespace sextant
