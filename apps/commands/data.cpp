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
#include "core/interrupt.h"
#include "core/outputs.h"
#include "core/progress.h"
#include "core/text.h"
#include "data/dataset/description.h"
#include "data/dataset/write.h"
#include "data/image/image.h"

namespace sextant::apps {
namespace {

enum class Action { kCheck, kStats, kConvert, kSplit };
constexpr auto enum_names(Action) {
  return make_enum_names<Action>("action", {{Action::kCheck, "check"},
                                            {Action::kStats, "stats"},
                                            {Action::kConvert, "convert"},
                                            {Action::kSplit, "split"}});
}

struct Options {
  Action action = Action::kCheck;
  std::string data, out;
  std::vector<std::string> splits;
  data::DatasetForm form = data::DatasetForm::kYolo;
  double val = 0.2, test = 0;
  uint64_t seed = 0;
};

std::vector<std::string> split_names(const Options& o) {
  std::vector<std::string> names = o.splits;
  if (names.empty())
    for (const auto& [split, images] : data::describe_dataset(o.data).images)
      names.push_back(split);
  check(!names.empty(), "{}: has no splits", o.data);
  return names;
}

// `alike`: the classes of all are numbered as those of the first.
std::vector<data::Dataset> open_splits(const Options& o, bool alike = false) {
  std::vector<data::Dataset> out;
  for (const auto& name : split_names(o)) {
    data::DatasetOptions options;
    if (alike && !out.empty()) options.classes = data::class_list(out.front());
    out.push_back(data::open_dataset(o.data, name, options));
  }
  return out;
}

// Every mistake in labels and images, which are all decoded. Throws Error when there is one.
void check_data(const Options& o) {
  int64_t mistakes = 0;
  for (const std::string& name : split_names(o)) {
    std::optional<data::Dataset> opened;
    try {
      opened = data::open_dataset(o.data, name);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& e) {
      fmt::print("{}: cannot be used: {}\n", name, e.what());
      ++mistakes;
      continue;
    }
    const data::Dataset& split = *opened;
    // Broken images are in the report below.
    set_notice_sink([](const std::string&) {});
    for (int64_t i = 0; i < split.size(); ++i) data::load_sample(split, i);
    set_notice_sink({});
    data::LabelReport report = split.report;
    report.add(split.broken->report());
    for (const auto& issue : report.issues()) fmt::print("{}\n", issue.str());
    mistakes += std::ssize(report.issues());
    fmt::print("{}: {}, {}, {}, {}\n", split.split, counted(split.size(), "image"),
               counted(split.boxes(), "box", "boxes"),
               counted(split.num_classes(), "class", "classes"),
               counted(std::ssize(report.issues()), "mistake"));
  }
  check(mistakes == 0, "{}: {} in labels and images", o.data, counted(mistakes, "mistake"));
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
    if (!split.report.empty())
      print_notice(fmt::format("{} ({}): {}", o.data, split.split, split.report.summary()));
    const LabelStatistics s = label_statistics(split);
    print_statistics(split, s);
    if (!o.out.empty()) add_statistics(body, split, s);
  }
  if (!o.out.empty()) write_atomically(o.out, html_page(o.data, body));
}

void write(const Options& o, const std::vector<std::string>& names,
           const std::vector<data::SplitToWrite>& splits) {
  const data::WrittenDataset w = data::write_dataset(o.out, o.form, names, splits);
  for (const auto& split : splits) fmt::print("{}: {} images\n", split.name, split.samples.size());
  fmt::print("{} written: {} images, {} boxes, {}{}\n", o.out, w.images, w.boxes, name_of(o.form),
             w.crowds > 0
                 ? fmt::format("; {} crowd boxes left out, which it has no form for", w.crowds)
                 : "");
}

std::vector<const data::Sample*> samples_of(const data::Dataset& dataset) {
  std::vector<const data::Sample*> samples;
  for (const auto& s : dataset.samples) samples.push_back(&s);
  return samples;
}

// The images of all splits, dealt anew, or in their splits.
void rewrite(const Options& o) {
  check_outputs({.inputs = {}, .datasets = {o.data}, .outputs = {}, .folders = {o.out}});
  const std::vector<data::Dataset> old = open_splits(o, true);
  for (const auto& split : old)
    if (!split.report.empty())
      print_notice(fmt::format("{} ({}): {}", o.data, split.split, split.report.summary()));
  if (o.action == Action::kConvert) {
    std::vector<data::SplitToWrite> splits;
    for (const auto& split : old) splits.push_back({split.split, samples_of(split)});
    return write(o, old.front().names, splits);
  }
  check(o.val + o.test < 1, "--val and --test: add up to {}, must leave images to train on",
        o.val + o.test);
  std::vector<const data::Sample*> all;
  for (const auto& split : old)
    for (const auto* sample : samples_of(split)) all.push_back(sample);
  write(o, old.front().names,
        data::deal(std::move(all),
                   {{"train", 1 - o.val - o.test}, {"val", o.val}, {"test", o.test}}, o.seed));
}

}  // namespace

void add_data_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "data", "Check a data set, show what its labels are like, or write it in another form");
  c.add_option("ACTION", o->action,
               "check: every mistake in labels and images; stats: classes, sizes, places; convert: "
               "write another form; split: deal all images into new splits");
  c.add_option("DATA", o->data, "data set: a folder, a JSON file or a data.yaml")
      .reads_data()
      .required();
  c.add_option("--split NAME", o->splits, "only these splits").one_value_each();
  c.add_option("--out PATH", o->out,
               "of stats: also write a page with charts; of convert and split: the new folder")
      .writes();
  const Option only_written =
      c.add_option("--to NAME", o->form, "of convert and split: yolo, coco or voc").show_default();
  const Option val = c.add_option("--val X", o->val, "of split: part of the images to validate on")
                         .range(0, 1)
                         .show_default();
  const Option test = c.add_option("--test X", o->test, "of split: part of the images to test on")
                          .range(0, 1)
                          .show_default();
  const Option seed =
      c.add_option("--seed N", o->seed, "of split: another seed, another choice").show_default();
  const std::vector<std::pair<Option, const char*>> only_split = {
      {val, "--val"}, {test, "--test"}, {seed, "--seed"}};
  c.examples({"sextant data check /data/bccd", "sextant data stats /data/bccd --out labels.html",
              "sextant data convert /data/voc --to coco --out /data/coco",
              "sextant data split /data/all --val 0.1 --test 0.1 --out /data/split"});
  c.callback([o, only_written, only_split] {
    const bool writes = o->action == Action::kConvert || o->action == Action::kSplit;
    check(writes || !only_written.given(), "--to: has no effect with {}", name_of(o->action));
    for (const auto& [option, name] : only_split)
      check(o->action == Action::kSplit || !option.given(), "{}: has no effect with {}", name,
            name_of(o->action));
    if (o->action == Action::kCheck) {
      check(o->out.empty(), "--out: has no effect with check");
      return check_data(*o);
    }
    if (o->action == Action::kStats) return show_statistics(*o);
    check(!o->out.empty(), "--out: is required, the folder to write");
    rewrite(*o);
  });
}

}  // namespace sextant::apps
