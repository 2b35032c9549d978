// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "apps/cli/common_options.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "apps/reporting/evaluation_report.h"
#include "core/file.h"
#include "core/outputs.h"
#include "deploy/detect/evaluation.h"
#include "deploy/engine/selftest.h"
#include "deploy/graph/file.h"

namespace sextant::apps {
namespace {

std::string number(double v) { return v < 0 ? "     -" : fmt::format("{:.4f}", v); }

void print_table(const deploy::EvalResult& r, const std::vector<std::string>& names) {
  size_t width = 5;
  for (const auto& n : names) width = std::max(width, n.size());
  fmt::print("{:<{}}  {:>7}  mAP50   mAP50-95\n", "class", width, "boxes");
  int64_t boxes = 0;
  for (const auto& c : r.metrics.per_class) boxes += c.truths;
  fmt::print("{:<{}}  {:>7}  {}  {}\n", "all", width, boxes, number(r.metrics.ap50),
             number(r.metrics.ap));
  for (size_t i = 0; i < names.size() && i < r.metrics.per_class.size(); ++i)
    if (const auto& c = r.metrics.per_class[i]; c.truths > 0 || names.size() <= 20)
      fmt::print("{:<{}}  {:>7}  {}  {}\n", names[i], width, c.truths, number(c.ap50),
                 number(c.ap));
  fmt::print("small {}  medium {}  large {}\n", number(r.metrics.ap_small),
             number(r.metrics.ap_medium), number(r.metrics.ap_large));
  fmt::print("best F1 {:.4f} at confidence {:.3f}: precision {:.4f}, recall {:.4f}\n", r.curves.f1,
             r.curves.confidence, r.curves.precision, r.curves.recall);
}

deploy::Proof::Measured measured(const deploy::EvalResult& r, const data::Dataset& dataset,
                                 deploy::Precision precision, int size) {
  deploy::Proof::Measured m;
  m.data = data_title(dataset);
  m.data_hash = data::fingerprint(dataset);
  m.precision = name_of(precision);
  m.image_size = size;
  m.map50 = std::max(0.0, r.metrics.ap50);
  m.map50_95 = std::max(0.0, r.metrics.ap);
  m.confidence = r.curves.confidence;
  m.f1 = r.curves.f1;
  m.class_confidence.assign(r.metrics.per_class.size(), m.confidence);
  for (const auto& c : r.curves.classes)
    if (const auto best = data::best_confidence(c))
      m.class_confidence[static_cast<size_t>(c.class_id)] = *best;
  return m;
}

void record(const std::string& model, deploy::Graph& graph, deploy::Proof::Measured measured) {
  if (graph.proof.golden.empty()) deploy::add_golden_integers(graph);
  graph.proof.measured = std::move(measured);
  deploy::replace_proof(model, graph.proof);
  fmt::print("{}: mAP and best thresholds recorded\n", model);
}

}  // namespace

void add_eval_command(Command app) {
  struct Options {
    std::string model, data, split = "val", json, report;
    ImageSize image_size;
    std::optional<deploy::Precision> precision;
    data::OnError on_error = data::OnError::kSkip;
    deploy::DeviceChoice device = deploy::DeviceChoice::kAuto;
    double conf = 0.03, iou = 0.65;
    bool simulate = false, record = false;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("eval", "Measure COCO mAP and milliseconds per image of a model");
  add_model_argument(c, o->model);
  add_data_option(c, o->data);
  c.add_option("--split NAME", o->split, "split to evaluate on").show_default();
  add_image_size_option(c, o->image_size);
  add_precision_option(c, o->precision);
  c.add_option("--conf X", o->conf, "minimum confidence").range(0.0, 1.0).show_default();
  c.add_option("--iou X", o->iou, "IoU threshold of non-maximum suppression")
      .range(0.0, 1.0)
      .show_default();
  c.add_flag("--simulate", o->simulate, "run the fake-quant simulation instead of the int8 engine");
  c.add_option("--on-error NAME", o->on_error, "what to do on mistakes in labels and images");
  add_device_option(c, o->device);
  c.add_option("--json FILE", o->json, "write the results to this file").writes();
  c.add_option("--report DIR", o->report,
               "write report.html and its pictures into this folder: curves, confusion, images");
  c.add_flag("--record", o->record,
             "write mAP and the best thresholds into MODEL, for `sextant info` and --conf best");
  c.examples(
      {"sextant eval int8.safetensors --data /data/bccd --split test --record",
       "sextant eval model.safetensors --data /data/bccd --json eval_fp32.json --report found"});
  c.callback([o] {
    auto [graph, checkpoint] = load_model_file(o->model);
    deploy::check_detects(graph);
    check(!o->record || !checkpoint,
          "--record: {} is a checkpoint; `sextant export --out` makes a deploy file of it",
          o->model);
    check(!o->record || !o->simulate, "--record: takes no figures of the simulation");
    if (!o->report.empty()) {
      check_fillable(o->report, "evaluation.json", "results.csv");
      check_outputs({.inputs = {}, .datasets = {o->data}, .outputs = {}, .folders = {o->report}});
      check(o->json.empty() || !lies_in(o->json, o->report),
            "--json: {} is in the folder of --report, which gets an evaluation.json anyway",
            o->json);
    }
    const data::Dataset dataset =
        deploy::open_dataset_for(graph, o->data, o->split, {.on_error = o->on_error});
    const auto precision = deploy::choose_precision(o->precision, graph);
    check(!o->simulate || precision == deploy::Precision::kInt8,
          "--simulate: needs --precision int8, not {}", name_of(precision));
    const int size = o->image_size.choose(graph);
    const Device device = deploy::choose_device(o->device, precision, o->simulate);
    const deploy::EvalResult r = deploy::evaluate(
        graph, dataset, size, precision,
        {.conf = o->conf, .iou = o->iou, .simulate = o->simulate, .device = device});
    print_table(r, dataset.names);
    Json j = r.json(dataset.names);
    fmt::print(
        "{} images of {} px in {}: {:.2f} ms inference, {:.2f} ms preprocess, {:.2f} ms "
        "postprocess per image\n",
        r.times.images, size, name_of(precision), j["ms_per_image"].get<double>(),
        j["ms_preprocess"].get<double>(), j["ms_postprocess"].get<double>());
    j["model"] = o->model;
    j["file_bytes"] = std::filesystem::file_size(o->model);
    j["precision"] = name_of(precision);
    j["device"] = deploy::device_title(device);
    j["image_size"] = size;
    j["split"] = o->split;
    check(!o->record || r.curves.f1 > 0,
          "--record: the best F1 is 0, there is no threshold to record in {}", o->model);
    if (o->record) record(o->model, graph, measured(r, dataset, precision, size));
    if (!o->json.empty()) write_atomically(o->json, json_text(j, 2) + "\n");
    if (!o->report.empty()) {
      const std::filesystem::path folder = o->report;
      write_evaluation(folder, r, dataset, j);
      HtmlBody body;
      body.paragraph(fmt::format("{} on split '{}' of {}: {} images of {} px in {}.", o->model,
                                 o->split, o->data, r.times.images, size, name_of(precision)));
      body.facts({{"mAP50-95", number(r.metrics.ap)},
                  {"mAP50", number(r.metrics.ap50)},
                  {"precision", number(r.curves.precision)},
                  {"recall", number(r.curves.recall)},
                  {"confidence of the best F1", number(r.curves.confidence)},
                  {"ms per image", fmt::format("{:.2f}", j["ms_per_image"].get<double>())}});
      body.append(evaluation_html(folder));
      write_atomically(folder / "report.html", html_page(o->model, body));
      fmt::print("{}\n", (folder / "report.html").string());
    }
  });
}

}  // namespace sextant::apps
