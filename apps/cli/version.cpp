// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/version.h"

#include <fmt/format.h>

#include "kernels/cpu/isa.h"

namespace sextant::apps {

std::string version_text(const std::string& program) {
  const std::string commit = SEXTANT_COMMIT;
  return fmt::format("{} {} ({}CPU kernels {}, {} CUDA)", program, SEXTANT_VERSION,
                     commit.empty() ? "" : fmt::format("commit {}, ", commit),
                     name_of(kernels::cpu::isa()), SEXTANT_WITH_CUDA ? "with" : "without");
}

}  // namespace sextant::apps
