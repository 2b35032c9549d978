// SPDX-License-Identifier: Apache-2.0
// What `--version` prints.
#pragma once

#include <string>

namespace sextant::apps {

// "sextant 0.1.0 (commit 0123abc, CPU kernels avx2, without CUDA)": the release, the commit it was
// built from where that is known, the kernels that this processor gets, and whether CUDA is built in.
std::string version_text(const std::string& program);

}  // namespace sextant::apps
