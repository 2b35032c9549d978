// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/commands/commands.h"
#include "core/config.h"

namespace sextant::apps {

void add_report_command(Command app) {
  auto files = std::make_shared<std::vector<std::string>>();
  Command c = app.add_command("report", "Make one table of several evaluations");
  c.add_option("NAME=FILE", *files, "JSON files written by eval, each with a name for its row")
      .reads()
      .required();
  c.examples({"sextant report fp32=eval_fp32.json int8=eval_int8.json"});
  c.callback([files] {
    size_t width = 12;
    for (const auto& f : *files) width = std::max(width, f.find('=') + 2);
    std::string table = fmt::format("{:<{}}{:>8}{:>10}{:>12}{:>12}\n", "model", width, "mAP50",
                                    "mAP50-95", "ms/image", "size MB");
    for (const auto& f : *files) {
      const size_t eq = f.find('=');
      check(eq != std::string::npos, "{}: must be NAME=FILE", f);
      const std::string path = f.substr(eq + 1);
      const Json j = load_json(path);
      const auto get = [&](const char* key) {
        check(j.is_object() && j.contains(key) && j.at(key).is_number(), "{}: has no number '{}'",
              path, key);
        return j.at(key).get<double>();
      };
      table +=
          fmt::format("{:<{}}{:>8.4f}{:>10.4f}{:>12.2f}{:>12.2f}\n", f.substr(0, eq), width,
                      get("map50"), get("map50_95"), get("ms_per_image"), get("file_bytes") / 1e6);
    }
    fmt::print("{}", table);
  });
}

}  // namespace sextant::apps
