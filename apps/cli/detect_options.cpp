// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/detect_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "deploy/detect/choices.h"
#include "deploy/engine/selftest.h"

namespace sextant::apps {
namespace {

// Classes by name, or by number from 0.
std::vector<int32_t> class_ids(const std::vector<std::string>& classes,
                               const deploy::Graph& graph) {
  std::vector<int32_t> ids;
  for (const std::string& name : classes) {
    const auto found = std::ranges::find(graph.class_names, name);
    if (found != graph.class_names.end()) {
      ids.push_back(static_cast<int32_t>(found - graph.class_names.begin()));
      continue;
    }
    int32_t id = -1;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data(), end, id);
    const deploy::Node* decode = graph.decode();
    const int64_t count = decode ? decode->as<deploy::DecodeAttributes>().num_classes : 0;
    check(error == std::errc() && stop == end && id >= 0 && id < count,
          "--classes {}: {} has no such class; its {} classes are {}", name, graph.label(), count,
          fmt::join(graph.class_names, ", "));
    ids.push_back(id);
  }
  return ids;
}

deploy::DetectorConfig detector_config(const DetectOptions& o, const deploy::Graph& graph) {
  deploy::DetectorConfig config;
  config.image_size = o.image_size.choose_side(graph);
  config.precision = deploy::choose_precision(o.precision, graph);
  config.device = deploy::choose_device(o.device, config.precision, false);
  Confidence::Chosen conf = o.conf.choose(graph);
  config.nms.conf = conf.all;
  config.class_conf = std::move(conf.by_class);
  config.nms.iou = o.iou;
  config.nms.max_det = o.max_det;
  config.nms.multi_label = o.multi_label;
  config.nms.agnostic = o.agnostic;
  config.nms.classes = class_ids(o.classes, graph);
  return config;
}

DetectOutputs chosen_outputs(const DetectOptions& o) {
  DetectOutputs outputs = o.outputs;
  if (o.save_txt) {
    // In addition to the other formats.
    if (outputs.formats.empty()) outputs.formats.push_back(ResultFormat::kCoco);
    if (std::ranges::find(outputs.formats, ResultFormat::kYolo) == outputs.formats.end())
      outputs.formats.push_back(ResultFormat::kYolo);
  }
  outputs.pictures = !o.no_pictures;
  outputs.style.labels = !o.hide_labels;
  return outputs;
}

}  // namespace

void add_detect_options(Command app, DetectOptions& o, const std::string& name) {
  add_model_argument(app, o.model);
  app.add_option("INPUTS", o.inputs,
                 "images, folders, quoted globs, lists of images (.txt), videos, cameras "
                 "(/dev/video0), streams (rtsp://...), or - for standard input");
  app.add_option("--out DIR", o.outputs.folder,
                 "folder for the annotated pictures and the results (required)");
  add_confidence_option(app, o.conf);
  app.add_option("--iou X", o.iou, "IoU threshold of non-maximum suppression")
      .range(0.0, 1.0)
      .show_default();
  app.add_option("--max-det N", o.max_det, "maximum number of boxes per image")
      .range(1, 30000)
      .show_default();
  app.add_option("--classes NAMES", o.classes,
                 "only these classes, by name or number, separated by commas")
      .delimiter(',')
      .one_value_each();
  app.add_flag("--agnostic", o.agnostic, "let boxes of different classes suppress each other");
  app.add_flag("--multi-label", o.multi_label,
               "keep a box for every class above --conf, not only for the best one");
  add_image_size_option(app, o.image_size);
  add_precision_option(app, o.precision);
  add_device_option(app, o.device);
  app.add_flag("--recursive", o.recursive, "also search the subfolders of folders");
  app.add_option("--raw WIDTHxHEIGHT", o.raw, "standard input is RGB frames of this size");
  app.add_option("--format NAMES", o.outputs.formats, "results, one or more, separated by commas")
      .default_text("coco; jsonl with videos");
  app.add_flag("--save-txt", o.save_txt, "also write labels/*.txt (yolo)");
  app.add_flag("--save-conf", o.outputs.confidences, "write the confidence into labels/*.txt");
  app.add_flag("--save-crops", o.outputs.crops, "cut the boxes out, into crops/CLASS/");
  app.add_flag("--no-pictures", o.no_pictures, "write the results only");
  app.add_flag("--jpeg", o.outputs.jpeg,
               "write pictures as JPEG, which is smaller and faster than PNG");
  app.add_option("--line-width N", o.outputs.style.line_width, "line width of the boxes in pixels")
      .range(0.0, 100.0)
      .default_text("by the size of the picture");
  app.add_flag("--hide-labels", o.hide_labels, "draw boxes without class and confidence");
  app.add_flag("--selftest", o.selftest,
               "in place of INPUTS: prove that a quantized model gives the same integers here as "
               "where its file was written");
  app.examples({name + " model.safetensors street.jpg --out found",
                name + " int8.safetensors photos/ --out found --conf 0.5 --format coco,csv",
                name + " int8.safetensors street.mp4 --out found --classes car,bus",
                "cat *.jpg | " + name + " int8.safetensors - --out found",
                name + " int8.safetensors --selftest"});
}

void run_selftest(const DetectOptions& o, const LoadGraph& load) {
  check(o.inputs.empty() && o.outputs.folder.empty(),
        "--selftest takes no INPUTS and no --out: its images are its own");
  const deploy::Graph graph = load(o.model);
  const Device device = deploy::choose_device(o.device, deploy::Precision::kInt8, false);
  const deploy::SelfTest t = deploy::selftest(graph, device);
  fmt::print("{}: the integers of {} tensors are equal, 2 golden images of {} x {} px on {}{}\n",
             o.model, t.tensors, t.width, t.height, deploy::device_title(device),
             t.others > 0 ? fmt::format("; {} tensors in float are not compared", t.others) : "");
}

void run_detect(const DetectOptions& o, const LoadGraph& load) {
  if (o.selftest) return run_selftest(o, load);
  check(!o.inputs.empty(), "INPUTS is required (see --help)");
  check(!o.outputs.folder.empty(), "--out is required (see --help)");
  std::optional<RawFrames> raw;
  if (!o.raw.empty()) raw = parse_raw_frames(o.raw, "--raw");
  const auto inputs = expand_inputs(o.inputs, o.recursive);
  const deploy::Graph graph = load(o.model);
  const deploy::DetectorConfig config = detector_config(o, graph);
  const DetectSummary found = detect(graph, config, o.model, inputs, raw, chosen_outputs(o));
  const deploy::DetectorTimes& t = found.times;
  const std::string at_a_time = t.at_a_time > 1 ? fmt::format(", {} at a time", t.at_a_time) : "";
  fmt::print(
      "{} pictures, {} boxes, {}; {:.1f} pictures/s{}; per picture {:.2f} ms preprocess, {:.2f} ms "
      "inference, {:.2f} ms postprocess; written to {}\n",
      found.pictures, found.boxes, name_of(config.precision),
      static_cast<double>(found.pictures) / found.seconds, at_a_time, t.per_image(t.preprocess),
      t.per_image(t.inference), t.per_image(t.postprocess), o.outputs.folder);
  check(found.broken == 0, "{} of {} images could not be read", found.broken,
        found.broken + found.pictures);
}

}  // namespace sextant::apps
