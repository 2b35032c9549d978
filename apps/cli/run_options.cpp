// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/run_options.h"

#include <fmt/format.h>

#include "core/communicator.h"
#include "core/config.h"

namespace sextant::apps {

namespace fs = std::filesystem;

Json RunOptions::json() const {
  Json json = load_json(config);
  try {
    for (const auto& o : overrides) apply_override(json, o);
  } catch (const Error& e) {
    fail("--set {}", e.what());
  }
  return json;
}

std::string RunOptions::config_folder() const { return fs::path(config).parent_path().string(); }

fs::path RunOptions::folder() const {
  if (!out.empty()) return out;
  const fs::path file(config);
  if (resume && file.filename() == "config.json")
    return file.has_parent_path() ? file.parent_path() : ".";
  return text_from_first([&] {
    const fs::path first = fs::path("runs") / file.stem();
    fs::path last = first, next = first;
    for (int n = 2; fs::exists(next) && !fs::is_empty(next); ++n) {
      last = next;
      next = fmt::format("{}-{}", first.string(), n);
    }
    return (resume ? last : next).string();
  });
}

void add_run_options(Command command, RunOptions& options, const std::string& config_help,
                     const std::string& set_example) {
  command.add_option("CONFIG", options.config, "JSON config; " + config_help).required();
  command
      .add_option("--set KEY=VALUE", options.overrides,
                  "override a key of the config, as in --set " + set_example)
      .one_value_each();
  command.add_option("--out DIR", options.out, "output folder")
      .default_text("runs/<config name>, numbered where that is taken");
  command.add_flag("--resume", options.resume, "resume the run in the output folder");
}

}  // namespace sextant::apps
