// SPDX-License-Identifier: Apache-2.0
// Files that a program reads and files that it writes: never the same.
#pragma once

#include <string>
#include <vector>

namespace sextant {

struct Files {
  std::vector<std::string> inputs;
  std::vector<std::string> datasets;  // inputs too: a file, or a folder with a data set in it
  std::vector<std::string> outputs;   // that may or may not be there yet
};

// Throws Error naming an output that is an input, by whatever name or link, or part of a data set
// (its description, images, labels or annotations), or another output. Devices and pipes may be
// anything.
void check_outputs(const Files& files);

}  // namespace sextant
