#include "apps/cli/detect_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "apps/cli/command_line.h"
#include "core/config.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "core/outputs.h"
#include "core/progress.h"
#include "data/drawing/draw.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/detector.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJson = "detections.json";

std::vector<fs::path> collect_images(const std::vector<std::string>& inputs) {
  std::vector<fs::path> files;
  for (const auto& input : inputs) {
    std::error_code ec;
    if (!fs::is_directory(input, ec)) {
      check(fs::exists(input, ec), "{}: no such file or folder", input);
      files.emplace_back(input);
      continue;
    }
    std::vector<fs::path> in_folder;
    for (const auto& entry : fs::directory_iterator(input))
      if (entry.is_regular_file() && data::is_image_name(entry.path()) &&
          !entry.path().filename().native().starts_with('.'))
        in_folder.push_back(entry.path());
    check(!in_folder.empty(), "{}: has no image", input);
    std::ranges::sort(in_folder);
    files.insert(files.end(), in_folder.begin(), in_folder.end());
  }
  return files;
}

// Where the annotated image of each file goes: "cat.png" for cat.jpg; a number is added when two
// images would get the same name. Throws Error when one of them, or the JSON, would overwrite an
// image or the model.
std::vector<fs::path> picture_files(const std::vector<fs::path>& images, const DetectOptions& o) {
  std::set<std::string> taken;
  std::vector<fs::path> pictures;
  Files files{.inputs = {o.model}, .datasets = {}, .outputs = {(fs::path(o.out) / kJson).string()}};
  for (const fs::path& image : images) {
    const std::string stem = image.stem().string();
    std::string name = stem + ".png";
    for (int k = 2; !taken.insert(name).second; ++k) name = fmt::format("{}_{}.png", stem, k);
    pictures.push_back(fs::path(o.out) / name);
    files.inputs.push_back(image.string());
    if (!o.no_pictures) files.outputs.push_back(pictures.back().string());
  }
  check_outputs(files);
  return pictures;
}

std::string class_name(const deploy::Graph& graph, int id) {
  const auto i = static_cast<size_t>(id);
  return i < graph.class_names.size() ? graph.class_names[i] : std::to_string(id);
}

// What was found so far.
struct Found {
  std::string rows;  // JSON
  int64_t boxes = 0, broken = 0;
};

void detect_in(const fs::path& file, size_t number, const fs::path& picture,
               const DetectOptions& options, const deploy::Graph& graph, deploy::Detector& detector,
               Found& found) {
  data::Image image;
  try {
    image = data::load_image(file);
  } catch (const Error& e) {
    print_notice(e.what());
    ++found.broken;
    return;
  }
  std::vector<data::LabelledBox> labelled;
  for (const auto& d : detector.run(image)) {
    const std::string name = class_name(graph, d.class_id);
    labelled.push_back({{d.x1, d.y1, d.x2, d.y2}, d.class_id, name, d.score});
    const Json row = {{"image_id", number},
                      {"file_name", file.filename().string()},
                      {"category_id", d.class_id},
                      {"category_name", name},
                      {"bbox", {d.x1, d.y1, d.x2 - d.x1, d.y2 - d.y1}},
                      {"score", d.score}};
    found.rows += (found.rows.empty() ? "" : ",\n") + json_text(row);
  }
  found.boxes += std::ssize(labelled);
  if (options.no_pictures) return;
  data::draw_detections(image, labelled);
  data::save_png(picture, image);
}

}  // namespace

void add_detect_options(Command app, DetectOptions& o, const std::string& name) {
  add_model_argument(app, o.model);
  app.add_option("IMAGES", o.inputs, "image files, or folders of images").reads().required();
  app.add_option("--out DIR", o.out, "folder for the annotated images and detections.json")
      .required();
  app.add_option("--conf X", o.conf, "minimum confidence").range(0.0, 1.0).show_default();
  app.add_option("--iou X", o.iou, "IoU threshold of non-maximum suppression")
      .range(0.0, 1.0)
      .show_default();
  app.add_option("--max-det N", o.max_det, "maximum number of boxes per image")
      .range(1, 30000)
      .show_default();
  add_image_size_option(app, o.image_size);
  add_precision_option(app, o.precision);
  add_device_option(app, o.device);
  app.add_flag("--multi-label", o.multi_label,
               "a box for every class above --conf, not only for the best one");
  app.add_flag("--no-pictures", o.no_pictures, "write detections.json only");
  app.examples({name + " model.safetensors street.jpg --out found",
                name + " int8.safetensors photos/ --out found --conf 0.5"});
}

void run_detect(const DetectOptions& o, const LoadGraph& load) {
  const auto files = collect_images(o.inputs);
  const auto pictures = picture_files(files, o);
  const deploy::Graph graph = load(o.model);
  deploy::DetectorConfig config;
  config.image_size = o.image_size.choose(graph);
  config.precision = deploy::choose_precision(o.precision, graph);
  config.device = deploy::choose_device(o.device, config.precision, false);
  config.nms.conf = o.conf;
  config.nms.iou = o.iou;
  config.nms.max_det = o.max_det;
  config.nms.multi_label = o.multi_label;
  deploy::Detector detector(graph, config);
  detector.warm_up();

  const InterruptScope scope;
  std::optional<Interrupted> interrupted;
  Found found;
  size_t done = 0;
  {
    Progress progress("detect", std::ssize(files));
    try {
      while (done < files.size()) {
        detect_in(files[done], done, pictures[done], o, graph, detector, found);
        progress.update(static_cast<int64_t>(++done));
      }
    } catch (const Interrupted& e) {
      interrupted = e;
    }
  }
  check(found.broken < std::ssize(files), "no image could be read");
  write_atomically(fs::path(o.out) / kJson, "[" + found.rows + "]\n");
  if (interrupted)
    throw Interrupted(interrupted->signal(),
                      fmt::format("{} after {} of {} images, whose boxes are in {}",
                                  interrupted->what(), done, files.size(), o.out));
  const auto& t = detector.times();
  const double ms = 1e3 / static_cast<double>(std::max<int64_t>(t.images, 1));
  fmt::print(
      "{} images, {} boxes, {}; per image {:.2f} ms preprocess, {:.2f} ms inference, {:.2f} ms "
      "postprocess; written to {}\n",
      t.images, found.boxes, name_of(config.precision), t.preprocess * ms, t.inference * ms,
      t.postprocess * ms, o.out);
  check(found.broken == 0, "{} of {} images could not be read", found.broken, files.size());
}

}  // namespace sextant::apps
