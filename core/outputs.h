// SPDX-License-Identifier: Apache-2.0
// Files that a program reads and files that it writes: never the same.
#pragma once

#include <string>
#include <vector>

namespace sextant {

struct Files {
  std::vector<std::string> inputs;
  std::vector<std::string> datasets;      // inputs too: a file, or a folder with a data set in it
  std::vector<std::string> outputs;       // that may or may not be there yet
  std::vector<std::string> folders = {};  // that files are written into
};

// Throws Error naming an output that is an input, by whatever name or link, or part of a data set
// (its description, images, labels or annotations), or another output; or naming a folder to write
// into that is among a data set's images, labels or annotations, where pictures would become part of
// it. Devices and pipes may be anything. Throws too where the folder that an output would be in, or be
// made in, is none or may not be written: before the work, not after it.
void check_outputs(const Files& files);

// Throws Error unless files can be written into the folder without replacing anything of the user's:
// it is not there or empty, or holds the file `ours`, which only this program writes, and not
// `not_ours`.
void check_fillable(const std::string& folder, const std::string& ours,
                    const std::string& not_ours);

}  // namespace sextant
