// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/commands/commands.h"
#include "apps/reporting/run_report.h"
#include "core/config.h"
#include "core/file.h"

namespace sextant::apps {
namespace {

void compare_evaluations(const std::vector<std::string>& files) {
  size_t width = 12;
  for (const auto& f : files) width = std::max(width, f.find('=') + 2);
  std::string table = fmt::format("{:<{}}{:>8}{:>10}{:>12}{:>12}\n", "model", width, "mAP50",
                                  "mAP50-95", "ms/image", "size MB");
  for (const auto& f : files) {
    const size_t eq = f.find('=');
    check(eq != std::string::npos, "{}: must be the folder of a run, or NAME=FILE", f);
    const std::string path = f.substr(eq + 1);
    const Json j = load_json(path);
    const auto get = [&](const char* key) {
      check(j.is_object() && j.contains(key) && j.at(key).is_number(), "{}: has no number '{}'",
            path, key);
      return j.at(key).get<double>();
    };
    // A run's own evaluation.json has neither a file nor times worth comparing.
    const auto get_if = [&](const char* key, double unit) {
      return j.contains(key) ? fmt::format("{:.2f}", get(key) / unit) : "-";
    };
    table +=
        fmt::format("{:<{}}{:>8.4f}{:>10.4f}{:>12}{:>12}\n", f.substr(0, eq), width, get("map50"),
                    get("map50_95"), get_if("ms_per_image", 1), get_if("file_bytes", 1e6));
  }
  fmt::print("{}", table);
}

void compare_runs(const std::vector<std::string>& folders, const std::string& out) {
  std::vector<RunFiles> runs;
  for (const auto& folder : folders) {
    check(is_folder(folder), "{}: is not the folder of a run", folder);
    check(out.empty() || !lies_in(out, folder),
          "--out: {} is in the folder of a run, which has a report.html of its own", out);
    runs.push_back(read_run(folder));
  }
  // Two runs of one name are told apart by their paths.
  for (RunFiles& r : runs)
    if (std::ranges::count(runs, r.folder.filename(),
                           [](const RunFiles& other) { return other.folder.filename(); }) > 1)
      r.name = r.folder.string();
  fmt::print("{}", comparison_text(runs));
  if (!out.empty()) write_atomically(out, comparison_page(runs));
}

}  // namespace

void add_report_command(Command app) {
  struct Options {
    std::vector<std::string> what;
    std::string out;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("report", "Compare training runs, or make one table of evaluations");
  c.add_option(
       "RUN", o->what,
       "folders of runs; or NAME=FILE, JSON files written by eval, each with a name for its "
       "row")
      .reads()
      .required();
  c.add_option("--out FILE", o->out,
               "of runs: also write a page, with their curves in common charts")
      .writes();
  c.examples({"sextant report runs/a runs/b --out compared.html",
              "sextant report fp32=eval_fp32.json int8=eval_int8.json"});
  c.callback([o] {
    if (is_folder(o->what[0])) return compare_runs(o->what, o->out);
    check(o->out.empty(), "--out: needs folders of runs, {} is none", o->what[0]);
    compare_evaluations(o->what);
  });
}

}  // namespace sextant::apps
