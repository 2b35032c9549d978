// SPDX-License-Identifier: Apache-2.0
#include "models/yolov6_config.h"

#include <cmath>

namespace sextant {

std::vector<int64_t> Yolov6Config::strides() const {
  return p6() ? std::vector<int64_t>{8, 16, 32, 64} : std::vector<int64_t>{8, 16, 32};
}

int64_t Yolov6Config::channels(int64_t c) const {
  return static_cast<int64_t>(std::ceil(static_cast<double>(c) * width_multiple / 8.0)) * 8;
}

namespace {
int64_t rounded_channels(double c, int64_t multiple) {
  const double q = static_cast<double>(multiple);
  const auto rounded = static_cast<int64_t>(std::floor((c + q / 2) / q)) * multiple;
  const int64_t channels = std::max(multiple, rounded);
  return static_cast<double>(channels) < 0.9 * c ? channels + multiple : channels;
}
}  // namespace

int64_t Yolov6Config::lite_channels(int64_t c) const {
  return rounded_channels(static_cast<double>(c) * width_multiple, 16);
}
int64_t Yolov6Config::lite_middle(int64_t c) const {
  return rounded_channels(static_cast<double>(lite_channels(c) / 2), 8);
}

int64_t Yolov6Config::repeats(int64_t n) const {
  if (n <= 1) return n;
  return std::max<int64_t>(
      static_cast<int64_t>(std::nearbyint(static_cast<double>(n) * depth_multiple)), 1);
}

namespace {

struct Mode {
  BlockKind block;
  const char* activation;  // "" where any is allowed
};
// A block may have any activation that passes large values.
std::vector<std::string> block_activations() {
  std::vector<std::string> names;
  for (const auto& [a, name] : enum_names(Activation{}).rows)
    if (a != Activation::kIdentity && std::isinf(kernels::traits_of(a).limit))
      names.emplace_back(name);
  return names;
}

Mode mode_of(TrainingMode mode) {
  switch (mode) {
    case TrainingMode::kRepVGG:
      return {BlockKind::kRepVGG, ""};
    case TrainingMode::kHyperSearch:
      return {BlockKind::kLinearAdd, ""};
    case TrainingMode::kRepOpt:
      return {BlockKind::kRealVGG, ""};
    case TrainingMode::kConvReLU:
      return {BlockKind::kConvBN, "relu"};
    case TrainingMode::kConvSiLU:
      return {BlockKind::kConvBN, "silu"};
    case TrainingMode::kQARepVGG:
      return {BlockKind::kQARepVGG, ""};
    case TrainingMode::kQARepVGGV2:
      return {BlockKind::kQARepVGGV2, ""};
  }
  fail("model: training mode {}", static_cast<int>(mode));
}

StageStyle stage(const Yolov6Config& c, bool csp) {
  const StageKind kind = !csp                                  ? StageKind::kRepBlock
                         : c.stage_block == StageBlock::kBepC3 ? StageKind::kBepC3
                                                               : StageKind::kMBLA;
  return {kind, c.block(), c.csp_e};
}

}  // namespace

bool Yolov6Config::p6() const {
  return backbone == BackboneKind::kEfficientRep6 || backbone == BackboneKind::kCSPBepP6 || lite();
}
bool Yolov6Config::lite() const { return backbone == BackboneKind::kLite; }
bool Yolov6Config::csp_backbone() const {
  return backbone == BackboneKind::kCSPBep || backbone == BackboneKind::kCSPBepP6;
}
bool Yolov6Config::csp_neck() const {
  return neck == NeckKind::kCSPRepBiFPAN || neck == NeckKind::kCSPRepBiFPANP6;
}

BlockStyle Yolov6Config::block() const {
  return {mode_of(training_mode).block, from_name<Activation>(activation)};
}

StageStyle Yolov6Config::backbone_stage() const { return stage(*this, csp_backbone()); }
StageStyle Yolov6Config::neck_stage() const { return stage(*this, csp_neck()); }

Activation Yolov6Config::neck_activation() const {
  return training_mode == TrainingMode::kConvSiLU ? Activation::kReLU
                                                  : from_name<Activation>(activation);
}

LossConfig Yolov6Config::loss() const {
  LossConfig c;
  c.num_classes = num_classes;
  c.strides = strides();
  c.iou_type = iou_type;
  c.reg_max = reg_max;
  c.use_dfl = use_dfl;
  if (objectness) c.objectness_weight = 1.0;
  return c;
}

namespace {

// The keys under "model", with what each has to fit.
class Fields {
 public:
  Fields(ConfigFields& fields, Yolov6Config& config) : f(fields), c(config) {}

  void visit() {
    preset();
    sizes();
    stages();
    blocks();
    head();
  }

 private:
  template <class... Args>
  void require(bool ok, const std::string& key, fmt::format_string<Args...> why,
               Args&&... args) const {
    if (!ok) f.check(false, key, fmt::format(why, std::forward<Args>(args)...));
  }

  void preset() {
    std::string type = c.type;
    f.name("type", type, "model type", yolov6_preset_names());
    if (!f.reading()) return;
    const int64_t classes = c.num_classes;
    c = yolov6_preset(type);
    c.num_classes = classes;
  }

  void sizes() {
    f("depth_multiple", c.depth_multiple, 0.01, 4.0);
    f("width_multiple", c.width_multiple, 0.01, 4.0);
    f("backbone", c.backbone);
    f("backbone_channels", c.backbone_channels);
    f("backbone_repeats", c.backbone_repeats);
    f("neck", c.neck);
    f("neck_channels", c.neck_channels);
    f("neck_repeats", c.neck_repeats);
    const auto backbone = name_of(c.backbone), neck = name_of(c.neck);
    const bool lite_neck = c.neck == NeckKind::kLite;
    require(c.lite() == lite_neck, "neck", "is {}, but backbone {} goes with {}", neck, backbone,
            c.lite() ? "Lite_EffiNeck" : "the other necks");
    const bool six_neck =
        lite_neck || c.neck == NeckKind::kRepBiFPAN6 || c.neck == NeckKind::kCSPRepBiFPANP6;
    require(c.p6() == six_neck, "neck", "is {}, for {} levels, but backbone {} has {}", neck,
            six_neck ? 4 : 3, backbone, c.p6() ? 4 : 3);
    const size_t stages = c.p6() && !c.lite() ? 6 : 5;
    check_list("backbone_channels", c.backbone_channels, stages, backbone);
    check_list("backbone_repeats", c.backbone_repeats, c.lite() ? 4 : stages, backbone);
    check_list("neck_channels", c.neck_channels, c.lite() ? 1 : 6, neck);
    check_list("neck_repeats", c.neck_repeats, c.lite() ? 0 : (six_neck ? 6 : 4), neck);
    if (c.lite())
      require(c.neck_channels[0] % 2 == 0, "neck_channels", "holds {}, {} needs an even number",
              c.neck_channels[0], neck);
  }

  void check_list(const std::string& key, const std::vector<int64_t>& values, size_t size,
                  std::string_view owner) const {
    require(values.size() == size, key, "has {} entries, {} needs {}", values.size(), owner, size);
    for (const int64_t v : values)
      require(v >= 1 && v <= 8192, key, "holds {}, must be in [1, 8192]", v);
  }

  void stages() {
    if (f.applies(!c.lite(), "cspsppf",
                  fmt::format("is given, but {} has no pyramid pooling", name_of(c.backbone))))
      f("cspsppf", c.cspsppf);
    const bool csp = c.csp_backbone() || c.csp_neck();
    const auto backbone = name_of(c.backbone), neck = name_of(c.neck);
    const std::string why =
        fmt::format("is given, but neither {} nor {} has CSP stages", backbone, neck);
    if (f.applies(csp, "stage_block", why)) f("stage_block", c.stage_block);
    if (f.applies(csp, "csp_e", why)) f("csp_e", c.csp_e, 0.1, 1.0);
    for (size_t i = 0; csp && i < c.neck_channels.size(); ++i)
      require(static_cast<double>(c.channels(c.neck_channels[i])) * c.csp_e >= 1, "csp_e",
              "is {}, which leaves none of {} channels", c.csp_e, c.channels(c.neck_channels[i]));
    std::vector<int64_t> strides = c.strides();
    f("strides", strides);
    require(strides == c.strides(), "strides", "is [{}], but backbone {} gives [{}]",
            fmt::join(strides, ", "), backbone, fmt::join(c.strides(), ", "));
  }

  void blocks() {
    const TrainingMode before = c.training_mode;
    f("training_mode", c.training_mode);
    require(!c.lite() || c.training_mode == TrainingMode::kRepVGG, "training_mode",
            "is {}, but {} has no blocks of other forms in training", name_of(c.training_mode),
            name_of(c.backbone));
    const std::string fixed = mode_of(c.training_mode).activation;
    // a preset's activation belongs to its training mode
    if (c.training_mode != before) c.activation = "relu";
    if (!fixed.empty()) c.activation = fixed;
    f.name("activation", c.activation, "activation", block_activations());
    require(fixed.empty() || c.activation == fixed, "activation",
            "is {}, but training mode {} means {}", c.activation, name_of(c.training_mode), fixed);
  }

  void head() {
    using kernels::IouType;
    f("fuse_ab", c.fuse_ab);
    if (f.applies(c.fuse_ab, "anchors", "is given, but 'model.fuse_ab' is false"))
      f("anchors", c.anchors);
    f("distill_ns", c.distill_ns);
    f("objectness", c.objectness);
    f("use_dfl", c.use_dfl);
    f("reg_max", c.reg_max, 0, 64);
    for (const auto& [key, given] :
         {std::pair{"fuse_ab", c.fuse_ab}, {"distill_ns", c.distill_ns}, {"use_dfl", c.use_dfl}})
      require(!(c.lite() && given), key, "is true, but the head of {} has no such branch",
              name_of(c.backbone));
    require(c.use_dfl == (c.reg_max > 0), "reg_max", "is {} with 'model.use_dfl' {}", c.reg_max,
            c.use_dfl);
    require(!(c.fuse_ab && c.distill_ns), "distill_ns", "is true together with 'model.fuse_ab'");
    require(!c.distill_ns || c.use_dfl, "distill_ns",
            "is true, which needs 'model.use_dfl' true and a 'model.reg_max'");
    if (c.fuse_ab) check_anchors();
    f("iou_type", c.iou_type,
      {IouType::kIoU, IouType::kGIoU, IouType::kDIoU, IouType::kCIoU, IouType::kSIoU});
  }

  void check_anchors() const {
    const size_t levels = c.strides().size();
    require(c.anchors.size() == levels, "anchors",
            "has {} levels, {} has {} (fuse_ab needs w, h of each anchor of each level)",
            c.anchors.size(), name_of(c.backbone), levels);
    for (const auto& level : c.anchors) {
      require(level.size() == c.anchors[0].size() && level.size() >= 2 && level.size() <= 18 &&
                  level.size() % 2 == 0,
              "anchors",
              "has a level of {} numbers, needs w, h of 1 to 9 anchors, equally many per level",
              level.size());
      for (const double side : level)
        require(side > 0 && side <= 8192, "anchors", "holds {}, must be in (0, 8192]", side);
    }
  }

  ConfigFields& f;
  Yolov6Config& c;
};

}  // namespace

void Yolov6Config::fields(ConfigFields& f) { Fields(f, *this).visit(); }

Yolov6Config read_yolov6_config(ConfigReader r, int64_t num_classes) {
  Yolov6Config c;
  c.num_classes = num_classes;
  read_fields(r, c);
  r.finish();
  return c;
}

}  // namespace sextant
