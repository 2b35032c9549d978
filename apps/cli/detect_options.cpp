#include "apps/cli/detect_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "apps/cli/command_line.h"
#include "core/config.h"
#include "core/file.h"
#include "core/progress.h"
#include "data/drawing/draw.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/detector.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

bool is_image(const fs::path& p) {
  std::string ext = p.extension().string();
  std::ranges::transform(ext, ext.begin(), [](unsigned char c) { return std::tolower(c); });
  return ext == ".jpg" || ext == ".jpeg" || ext == ".png";
}

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
      if (entry.is_regular_file() && is_image(entry.path())) in_folder.push_back(entry.path());
    check(!in_folder.empty(), "{}: has no .jpg or .png image", input);
    std::ranges::sort(in_folder);
    files.insert(files.end(), in_folder.begin(), in_folder.end());
  }
  return files;
}

// "cat.png" for cat.jpg; a number is added when two images would get the same name.
std::string picture_name(const fs::path& file, std::set<std::string>& taken) {
  const std::string stem = file.stem().string();
  std::string name = stem + ".png";
  for (int k = 2; !taken.insert(name).second; ++k) name = fmt::format("{}_{}.png", stem, k);
  return name;
}

std::string class_name(const deploy::Graph& graph, int id) {
  const auto i = static_cast<size_t>(id);
  return i < graph.class_names.size() ? graph.class_names[i] : std::to_string(id);
}

}  // namespace

void add_detect_options(Command app, DetectOptions& o, const std::string& name) {
  add_model_argument(app, o.model);
  app.add_option("IMAGES", o.inputs, "image files, or folders of images").required();
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

  std::string json;
  std::set<std::string> taken;
  int64_t boxes = 0, broken = 0;
  std::string first_problem;
  Progress progress("detect", static_cast<int64_t>(files.size()));
  for (size_t i = 0; i < files.size(); ++i) {
    data::Image image;
    try {
      image = data::load_image(files[i]);
    } catch (const Error& e) {
      fmt::print(stderr, "{}\n", e.what());
      if (broken++ == 0) first_problem = e.what();
      continue;
    }
    const auto found = detector.run(image);
    std::vector<data::LabelledBox> labelled;
    for (const auto& d : found) {
      const std::string name = class_name(graph, d.class_id);
      labelled.push_back({{d.x1, d.y1, d.x2, d.y2}, d.class_id, name, d.score});
      const Json row = {{"image_id", i},
                        {"file_name", files[i].filename().string()},
                        {"category_id", d.class_id},
                        {"category_name", name},
                        {"bbox", {d.x1, d.y1, d.x2 - d.x1, d.y2 - d.y1}},
                        {"score", d.score}};
      json +=
          (json.empty() ? "" : ",\n") + row.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    boxes += static_cast<int64_t>(found.size());
    if (!o.no_pictures) {
      data::draw_detections(image, labelled);
      data::save_png(fs::path(o.out) / picture_name(files[i], taken), image);
    }
    progress.update(static_cast<int64_t>(i + 1));
  }
  progress.finish();
  check(broken < static_cast<int64_t>(files.size()), "{}", first_problem);
  write_atomically(fs::path(o.out) / "detections.json", "[" + json + "]\n");
  const auto& t = detector.times();
  const double ms = 1e3 / static_cast<double>(std::max<int64_t>(t.images, 1));
  fmt::print(
      "{} images, {} boxes, {}; per image {:.2f} ms preprocess, {:.2f} ms inference, {:.2f} ms "
      "postprocess; written to {}\n",
      t.images, boxes, name_of(config.precision), t.preprocess * ms, t.inference * ms,
      t.postprocess * ms, o.out);
  check(broken == 0, "{} of {} images could not be read; the first: {}", broken, files.size(),
        first_problem);
}

}  // namespace sextant::apps
