// SPDX-License-Identifier: Apache-2.0
// The common options of commands that run from a JSON config into a folder: train, qat, ladder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/cli/command_line.h"
#include "core/json.h"

namespace sextant::apps {

struct RunOptions {
  std::string config, out;
  std::vector<std::string> overrides;
  bool resume = false;

  // The config with the overrides of --set. Throws Error naming the file or the override.
  Json json() const;
  // The config's folder, to which its paths are relative.
  std::string config_folder() const;
  // --out; without, runs/<config name>, numbered where that is taken: runs/<config name>-2. To be
  // resumed: the last of them, or the folder of a run's own config.json. The first of several
  // processes decides.
  std::filesystem::path folder() const;
};

// CONFIG, --set, --out, --resume. `config_help` and `set_example` complete their help.
void add_run_options(Command command, RunOptions& options, const std::string& config_help,
                     const std::string& set_example);

}  // namespace sextant::apps
