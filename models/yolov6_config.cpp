#include "models/yolov6_config.h"

#include <cmath>

namespace sextant {

int64_t Yolov6Config::channels(int64_t c) const {
  return static_cast<int64_t>(std::ceil(static_cast<double>(c) * width_multiple / 8.0)) * 8;
}

int64_t Yolov6Config::repeats(int64_t n) const {
  if (n <= 1) return n;
  return std::max<int64_t>(
      static_cast<int64_t>(std::nearbyint(static_cast<double>(n) * depth_multiple)), 1);
}

LossConfig Yolov6Config::loss() const {
  LossConfig c;
  c.num_classes = num_classes;
  c.strides = {std::begin(kStrides), std::end(kStrides)};
  c.iou_type = kernels::iou_type_from_name(iou_type);
  c.reg_max = reg_max;
  c.use_dfl = use_dfl;
  return c;
}

Json Yolov6Config::json() const {
  return {{"type", type},
          {"depth_multiple", depth_multiple},
          {"width_multiple", width_multiple},
          {"backbone_channels", backbone_channels},
          {"backbone_repeats", backbone_repeats},
          {"neck_channels", neck_channels},
          {"neck_repeats", neck_repeats},
          {"training_mode", training_mode},
          {"use_dfl", use_dfl},
          {"reg_max", reg_max},
          {"iou_type", iou_type}};
}

namespace {

void read_list(ConfigReader& r, const std::string& key, std::vector<int64_t>& list) {
  const size_t size = list.size();
  r.get(key, list);
  check(list.size() == size, "{}: 'model.{}' has {} entries, needs {}", r.where(), key, list.size(),
        size);
  for (const int64_t v : list)
    check(v >= 1 && v <= 8192, "{}: 'model.{}' holds {}, must be in [1, 8192]", r.where(), key, v);
}

}  // namespace

Yolov6Config read_yolov6_config(ConfigReader r, int64_t num_classes) {
  Yolov6Config c;
  c.num_classes = num_classes;
  r.choice("type", c.type, {"yolov6n_opt", "yolov6t_opt", "yolov6s_opt"});
  // The presets differ in their multiples only (official configs/repopt).
  if (c.type == "yolov6t_opt") c.width_multiple = 0.375;
  if (c.type == "yolov6s_opt") c.width_multiple = 0.5;
  r.number("depth_multiple", c.depth_multiple, 0.01, 4.0);
  r.number("width_multiple", c.width_multiple, 0.01, 4.0);
  read_list(r, "backbone_channels", c.backbone_channels);
  read_list(r, "backbone_repeats", c.backbone_repeats);
  read_list(r, "neck_channels", c.neck_channels);
  read_list(r, "neck_repeats", c.neck_repeats);
  r.choice("training_mode", c.training_mode, {"repvgg"});
  r.get("use_dfl", c.use_dfl);
  r.number("reg_max", c.reg_max, 0, 64);
  check(c.use_dfl == (c.reg_max > 0), "{}: 'model.reg_max' is {} with 'model.use_dfl' {}",
        r.where(), c.reg_max, c.use_dfl);
  r.choice("iou_type", c.iou_type, {"iou", "giou", "diou", "ciou", "siou"});
  r.finish();
  return c;
}

}  // namespace sextant
