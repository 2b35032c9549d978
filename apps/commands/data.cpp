// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/commands/commands.h"
#include "apps/reporting/html.h"
#include "apps/reporting/label_statistics.h"
#include "apps/reporting/pictures.h"
#include "core/error.h"
#include "core/file.h"
#include "data/dataset/description.h"
#include "data/image/image.h"

namespace sextant::apps {
namespace {

enum class Action { kCheck, kStats };
constexpr auto enum_names(Action) {
  return make_enum_names<Action>("action", {{Action::kCheck, "check"}, {Action::kStats, "stats"}});
}

struct Options {
  Action action = Action::kCheck;
  std::string data, out;
  std::vector<std::string> splits;
};

std::vector<data::Dataset> open_splits(const Options& o) {
  std::vector<std::string> names = o.splits;
  if (names.empty())
    for (const auto& [split, images] : data::describe_dataset(o.data).images)
      names.push_back(split);
  check(!names.empty(), "{}: has no splits", o.data);
  std::vector<data::Dataset> out;
  for (const auto& name : names) out.push_back(data::open_dataset(o.data, name));
  return out;
}

// Every mistake in labels and images, which are all decoded. Throws Error when there is one.
void check_data(const Options& o) {
  int64_t mistakes = 0;
  for (const data::Dataset& split : open_splits(o)) {
    for (int64_t i = 0; i < split.size(); ++i) data::load_sample(split, i);
    data::LabelReport report = split.report;
    report.add(split.broken->report());
    for (const auto& issue : report.issues()) fmt::print("{}\n", issue.str());
    mistakes += std::ssize(report.issues());
    fmt::print("{}: {} images, {} boxes, {} classes, {} mistake{}\n", split.split, split.size(),
               split.boxes(), split.num_classes(), report.issues().size(),
               report.issues().size() == 1 ? "" : "s");
  }
  check(mistakes == 0, "{}: {} mistake{} in labels and images", o.data, mistakes,
        mistakes == 1 ? "" : "s");
}

std::string share(int64_t part, int64_t all) {
  return fmt::format("{:.1f}%",
                     all > 0 ? 100 * static_cast<double>(part) / static_cast<double>(all) : 0.0);
}

void print_statistics(const data::Dataset& split, const LabelStatistics& s) {
  fmt::print(
      "{}: {} images ({} without boxes) from {}x{} to {}x{}; {} boxes, at most {} in an image\n",
      split.split, s.images, s.empty_images, s.smallest_width, s.smallest_height, s.largest_width,
      s.largest_height, s.boxes, s.most_boxes);
  fmt::print("  small {} ({}), medium {} ({}), large {} ({}), crowds {}\n", s.small,
             share(s.small, s.boxes), s.medium, share(s.medium, s.boxes), s.large,
             share(s.large, s.boxes), s.crowds);
  size_t width = 5;
  for (const auto& c : s.classes) width = std::max(width, c.name.size());
  fmt::print("  {:<{}}  {:>8}  {:>8}  median side, px\n", "class", width, "boxes", "images");
  for (const auto& c : s.classes)
    fmt::print("  {:<{}}  {:>8}  {:>8}  {:>15.0f}\n", c.name, width, c.boxes, c.images,
               c.median_side);
}

void add_statistics(HtmlBody& body, const data::Dataset& split, const LabelStatistics& s) {
  body.heading("Split " + split.split);
  body.facts({{"images", std::to_string(s.images)},
              {"without boxes", std::to_string(s.empty_images)},
              {"boxes", std::to_string(s.boxes)},
              {"small, below 32 x 32", share(s.small, s.boxes)},
              {"medium, to 96 x 96", share(s.medium, s.boxes)},
              {"large", share(s.large, s.boxes)},
              {"mistakes in labels", std::to_string(split.report.issues().size())}});
  body.figures(
      {{"image/png", data::encode_png(draw_labels(split), split.split),
        "Boxes of each class, boxes of each image, where their centres are, how large they "
        "are.",
        true}});
  std::vector<std::vector<std::string>> rows;
  for (const auto& c : s.classes)
    rows.push_back({c.name, std::to_string(c.boxes), std::to_string(c.images),
                    fmt::format("{:.0f}", c.median_side)});
  body.table({"class", "boxes", "images", "median side, px"}, rows);
}

void show_statistics(const Options& o) {
  HtmlBody body;
  for (const data::Dataset& split : open_splits(o)) {
    const LabelStatistics s = label_statistics(split);
    print_statistics(split, s);
    if (!o.out.empty()) add_statistics(body, split, s);
  }
  if (!o.out.empty()) write_atomically(o.out, html_page(o.data, body));
}

}  // namespace

void add_data_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command("data", "Check a data set, or show what its labels are like");
  c.add_option("ACTION", o->action,
               "check: every mistake in labels and images; stats: classes, sizes, places");
  c.add_option("DATA", o->data, "data set: a folder, a JSON file or a data.yaml")
      .reads_data()
      .required();
  c.add_option("--split NAME", o->splits, "only these splits").one_value_each();
  c.add_option("--out FILE", o->out, "of stats: also write a page with charts").writes();
  c.examples({"sextant data check /data/bccd", "sextant data stats /data/bccd --out labels.html"});
  c.callback([o] {
    check(o->action == Action::kStats || o->out.empty(), "--out: goes with stats");
    o->action == Action::kCheck ? check_data(*o) : show_statistics(*o);
  });
}

}  // namespace sextant::apps
