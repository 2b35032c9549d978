#include "apps/cli/run_options.h"

namespace sextant::apps {

namespace fs = std::filesystem;

fs::path RunOptions::folder() const {
  return out.empty() ? fs::path("runs") / fs::path(config).stem() : fs::path(out);
}

void add_run_options(Command command, RunOptions& options, const std::string& config_help,
                     const std::string& set_example) {
  command.add_option("CONFIG", options.config, "JSON config; " + config_help).required();
  command.add_option("--set", options.overrides, "Override a key: --set " + set_example)
      .one_value_each();
  command.add_option("--out", options.out, "Folder (default: runs/<config name>)");
  command.add_flag("--resume", options.resume, "Go on with what is in the folder");
}

}  // namespace sextant::apps
