// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/reporting/html.h"
#include "core/file.h"
#include "core/outputs.h"
#include "core/progress.h"
#include "data/drawing/draw.h"
#include "deploy/detect/box_changes.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;
using deploy::BoxChange;

struct Options {
  std::string a, b, data, split = "val", out;
  ImageSize image_size;
  deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
  double conf = 0.4, iou = 0.45;
  int64_t images = 0, top = 12;
};

// One model's boxes in an image and what they are to the other.
struct Side {
  std::vector<kernels::Detection> boxes;
  std::vector<BoxChange> changes;
  int64_t lost() const { return std::ranges::count_if(changes, deploy::is_lost); }
  int64_t moved() const { return std::ranges::count(changes, BoxChange::kMoved); }
};
struct Compared {
  int64_t sample = 0;
  Side a, b;  // a: against b; b: against a
  int64_t changed() const { return 3 * (a.lost() + b.lost()) + a.moved(); }
};

// [change][class]
using Counts = std::map<BoxChange, std::map<int, int64_t>>;

void count(const Side& side, Counts& counts) {
  for (size_t i = 0; i < side.boxes.size(); ++i) ++counts[side.changes[i]][side.boxes[i].class_id];
}

int64_t total(const Counts& counts, BoxChange change) {
  int64_t n = 0;
  if (const auto found = counts.find(change); found != counts.end())
    for (const auto& [c, boxes] : found->second) n += boxes;
  return n;
}

int64_t of_class(const Counts& counts, BoxChange change, int c) {
  const auto found = counts.find(change);
  if (found == counts.end()) return 0;
  const auto boxes = found->second.find(c);
  return boxes == found->second.end() ? 0 : boxes->second;
}

deploy::DetectorConfig config_for(const Options& o, deploy::Graph& graph) {
  deploy::DetectorConfig config;
  config.image_size = o.image_size.choose(graph);
  config.precision = deploy::choose_precision(std::nullopt, graph);
  config.device = deploy::choose_device(o.device, config.precision, false);
  config.nms.conf = static_cast<float>(o.conf);
  config.nms.iou = o.iou;
  return config;
}

std::vector<std::string> header(const std::vector<std::string>& names) {
  std::vector<std::string> cells = {"", "all"};
  cells.insert(cells.end(), names.begin(), names.end());
  return cells;
}

std::vector<std::vector<std::string>> rows(const Counts& counts,
                                           const std::vector<std::string>& names) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& name : names_of<BoxChange>()) {
    const auto change = from_name<BoxChange>(name);
    std::vector<std::string> row = {name, std::to_string(total(counts, change))};
    for (size_t c = 0; c < names.size(); ++c)
      row.push_back(std::to_string(of_class(counts, change, static_cast<int>(c))));
    rows.push_back(std::move(row));
  }
  return rows;
}

Json to_json(const Counts& counts, const std::vector<std::string>& names) {
  Json j = Json::object();
  for (const std::string& name : names_of<BoxChange>()) {
    const auto change = from_name<BoxChange>(name);
    Json& of = j[name] = {{"all", total(counts, change)}};
    for (size_t c = 0; c < names.size(); ++c)
      if (const int64_t n = of_class(counts, change, static_cast<int>(c)); n > 0)
        of["per_class"][names[c]] = n;
  }
  return j;
}

// Grey what both see, blue what moved, orange what the other lacks, with the reason.
data::Image drawn(data::Image image, const Side& side, const std::vector<std::string>& names) {
  constexpr data::Color kBoth{150, 150, 150}, kMoved{31, 99, 196}, kLost{236, 132, 20};
  std::vector<data::LabelledBox> boxes;
  for (size_t i = 0; i < side.boxes.size(); ++i) {
    const auto& d = side.boxes[i];
    const BoxChange change = side.changes[i];
    const bool kept = change == BoxChange::kKept;
    const std::string name = names[static_cast<size_t>(d.class_id)];
    boxes.push_back({{d.x1, d.y1, d.x2, d.y2},
                     d.class_id,
                     kept ? "" : fmt::format("{}: {}", name, name_of(change)),
                     kept ? -1 : double{d.score},
                     kept                          ? kBoth
                     : change == BoxChange::kMoved ? kMoved
                                                   : kLost});
  }
  data::draw_detections(image, boxes);
  return image;
}

void write_page(const Options& o, const data::Dataset& dataset, const std::vector<Compared>& all,
                const Counts& lost, const Counts& gained, const Json& json) {
  const fs::path folder = o.out;
  HtmlBody body;
  body.paragraph(fmt::format("A is {}, B is {}; {} images of {}, confidence {} and IoU {}.", o.a,
                             o.b, all.size(), data_title(dataset), o.conf, o.iou));
  body.heading("What A's boxes are in B");
  body.table(header(dataset.names), rows(lost, dataset.names));
  body.heading("What B's boxes are in A");
  body.table(header(dataset.names), rows(gained, dataset.names));
  body.heading("Images with most differences");
  body.paragraph(
      "Left A, right B. Grey: in both. Blue: moved. Orange: the other lacks it, and why.");
  std::vector<const Compared*> order;
  for (const Compared& c : all)
    if (c.changed() > 0) order.push_back(&c);
  std::ranges::stable_sort(order, std::greater<>(), [](const Compared* c) { return c->changed(); });
  order.resize(std::min(order.size(), static_cast<size_t>(o.top)));
  std::vector<HtmlBody::Figure> figures;
  for (const Compared* c : order) {
    const auto image = data::load_sample(dataset, c->sample);
    if (!image) continue;
    const std::string name =
        dataset.samples[static_cast<size_t>(c->sample)].image.filename().string();
    figures.push_back({"image/jpeg", data::encode_jpeg(drawn(*image, c->a, dataset.names), name),
                       fmt::format("A, {}: B lacks {}, {} moved", name, c->a.lost(), c->a.moved()),
                       false});
    figures.push_back({"image/jpeg", data::encode_jpeg(drawn(*image, c->b, dataset.names), name),
                       fmt::format("B, {}: A lacks {}", name, c->b.lost()), false});
  }
  body.figures(figures);
  write_atomically(folder / "diff.json", json_text(json, 2) + "\n");
  write_atomically(folder / "diff.html", html_page("Two models compared", body));
  fmt::print("{}\n", (folder / "diff.html").string());
}

void print_counts(const std::string& title, const Counts& counts) {
  fmt::print("{}\n", title);
  for (const std::string& name : names_of<BoxChange>())
    fmt::print("  {:<14}{:>7}\n", name, total(counts, from_name<BoxChange>(name)));
}

void run(const Options& o) {
  if (!o.out.empty()) {
    check_fillable(o.out, "diff.json", "results.csv");
    check_outputs({.inputs = {}, .datasets = {o.data}, .outputs = {}, .folders = {o.out}});
  }
  deploy::Graph a = load_model_graph(o.a), b = load_model_graph(o.b);
  deploy::check_detects(a);
  deploy::check_detects(b);
  check(a.class_names == b.class_names, "{} and {} have other classes, which cannot be compared",
        o.a, o.b);
  const data::Dataset dataset = deploy::open_dataset_for(a, o.data, o.split);
  deploy::Observatory in_a(a, config_for(o, a)), in_b(b, config_for(o, b));
  std::vector<Compared> all;
  Counts lost, gained;
  const int64_t images = o.images > 0 ? std::min(o.images, dataset.size()) : dataset.size();
  Progress progress("compare", images);
  for (int64_t i = 0; i < images; ++i) {
    progress.update(i);
    const auto image = data::load_sample(dataset, i);
    if (!image) continue;
    const deploy::Sight sa = in_a.look(*image), sb = in_b.look(*image);
    Compared c{i,
               {sa.shown, deploy::box_changes(sa.shown, sb)},
               {sb.shown, deploy::box_changes(sb.shown, sa)}};
    count(c.a, lost);
    count(c.b, gained);
    all.push_back(std::move(c));
  }
  progress.finish();
  check(!all.empty(), "{}: none of the images of split '{}' can be decoded", o.data, o.split);
  print_counts(fmt::format("what the boxes of {} are in {}, {} images:", o.a, o.b, all.size()),
               lost);
  print_counts(fmt::format("what the boxes of {} are in {}:", o.b, o.a), gained);
  if (o.out.empty()) return;
  write_page(o, dataset, all, lost, gained,
             {{"a", o.a},
              {"b", o.b},
              {"images", all.size()},
              {"boxes_of_a", to_json(lost, dataset.names)},
              {"boxes_of_b", to_json(gained, dataset.names)}});
}

}  // namespace

void add_diff_command(Command app) {
  auto o = std::make_shared<Options>();
  Command c = app.add_command(
      "diff",
      "Compare the boxes of two models: what one loses or moves against the other, and why");
  c.add_option("A", o->a, "checkpoint or deploy file").reads().required();
  c.add_option("B", o->b, "the one that is to take its place").reads().required();
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to take images from").show_default();
  c.add_option("--images N", o->images, "only so many images").range(1, 1e9).default_text("all");
  c.add_option("--conf X", o->conf, "minimum confidence").range(0.0, 1.0).show_default();
  c.add_option("--iou X", o->iou, "IoU threshold of non-maximum suppression")
      .range(0.0, 1.0)
      .show_default();
  add_image_size_option(c, o->image_size);
  add_device_option(c, o->device);
  c.add_option("--out DIR", o->out,
               "write diff.html, with pictures, and diff.json into this folder");
  c.add_option("--top N", o->top, "images in diff.html").range(0, 1000).show_default();
  c.examples({"sextant diff model.safetensors int8.safetensors --data /data/bccd --out compared"});
  c.callback([o] { run(*o); });
}

}  // namespace sextant::apps
