#include "models/yolov6_config.h"

#include <cmath>

namespace sextant {

std::vector<int64_t> Yolov6Config::strides() const {
  return p6() ? std::vector<int64_t>{8, 16, 32, 64} : std::vector<int64_t>{8, 16, 32};
}

int64_t Yolov6Config::channels(int64_t c) const {
  return static_cast<int64_t>(std::ceil(static_cast<double>(c) * width_multiple / 8.0)) * 8;
}

int64_t Yolov6Config::repeats(int64_t n) const {
  if (n <= 1) return n;
  return std::max<int64_t>(
      static_cast<int64_t>(std::nearbyint(static_cast<double>(n) * depth_multiple)), 1);
}

namespace {

struct Mode {
  const char* name;
  BlockKind kind;
  const char* activation;  // "" where any is allowed
};
constexpr Mode kModes[] = {
    {"repvgg", BlockKind::kRepVGG, ""},        {"hyper_search", BlockKind::kLinearAdd, ""},
    {"repopt", BlockKind::kRealVGG, ""},       {"conv_relu", BlockKind::kConvBN, "relu"},
    {"conv_silu", BlockKind::kConvBN, "silu"}, {"qarepvgg", BlockKind::kQARepVGG, ""},
    {"qarepvggv2", BlockKind::kQARepVGGV2, ""}};

// A block may have any activation that passes large values.
std::vector<std::string> block_activations() {
  std::vector<std::string> names;
  for (const auto& [a, name] : enum_names(Activation{}).rows)
    if (a != Activation::kIdentity && std::isinf(kernels::traits_of(a).limit))
      names.emplace_back(name);
  return names;
}

const Mode& mode_of(const std::string& name) {
  for (const Mode& m : kModes)
    if (name == m.name) return m;
  fail("model: no training mode '{}'", name);
}

}  // namespace

BlockStyle Yolov6Config::block() const {
  return {mode_of(training_mode).kind, from_name<Activation>(activation)};
}

namespace {
StageStyle stage(const Yolov6Config& c, bool csp) {
  const StageKind kind = !csp                       ? StageKind::kRepBlock
                         : c.stage_block == "BepC3" ? StageKind::kBepC3
                                                    : StageKind::kMBLA;
  return {kind, c.block(), c.csp_e};
}
}  // namespace

StageStyle Yolov6Config::backbone_stage() const { return stage(*this, csp_backbone()); }
StageStyle Yolov6Config::neck_stage() const { return stage(*this, csp_neck()); }

Activation Yolov6Config::neck_activation() const {
  return training_mode == "conv_silu" ? Activation::kReLU : from_name<Activation>(activation);
}

LossConfig Yolov6Config::loss() const {
  LossConfig c;
  c.num_classes = num_classes;
  c.strides = strides();
  c.iou_type = kernels::iou_type_from_name(iou_type);
  c.reg_max = reg_max;
  c.use_dfl = use_dfl;
  if (objectness) c.objectness_weight = 1.0;
  return c;
}

Json Yolov6Config::json() const {
  Json j = {{"type", type},
            {"depth_multiple", depth_multiple},
            {"width_multiple", width_multiple},
            {"backbone", backbone},
            {"backbone_channels", backbone_channels},
            {"backbone_repeats", backbone_repeats},
            {"neck", neck},
            {"neck_channels", neck_channels},
            {"neck_repeats", neck_repeats},
            {"cspsppf", cspsppf}};
  if (csp_backbone() || csp_neck()) {
    j["stage_block"] = stage_block;
    j["csp_e"] = csp_e;
  }
  j["strides"] = strides();
  j["training_mode"] = training_mode;
  j["activation"] = activation;
  j["fuse_ab"] = fuse_ab;
  if (fuse_ab) j["anchors"] = anchors;
  j["distill_ns"] = distill_ns;
  j["objectness"] = objectness;
  j["use_dfl"] = use_dfl;
  j["reg_max"] = reg_max;
  j["iou_type"] = iou_type;
  return j;
}

namespace {

// Reads and checks one model object; messages start with the file and name the key.
class Reader {
 public:
  Reader(ConfigReader& reader, Yolov6Config& config) : r(reader), c(config) {}

  void read() {
    sizes();
    stages();
    blocks();
    head();
  }

 private:
  template <class... Args>
  void require(bool ok, const std::string& key, fmt::format_string<Args...> why,
               Args&&... args) const {
    if (!ok)
      fail("{}: 'model.{}' {}", r.where(), key, fmt::format(why, std::forward<Args>(args)...));
  }

  void list(const std::string& key, std::vector<int64_t>& values, size_t size,
            const std::string& owner) {
    r.get(key, values);
    require(values.size() == size, key, "has {} entries, {} needs {}", values.size(), owner, size);
    for (const int64_t v : values)
      require(v >= 1 && v <= 8192, key, "holds {}, must be in [1, 8192]", v);
  }

  void sizes() {
    r.number("depth_multiple", c.depth_multiple, 0.01, 4.0);
    r.number("width_multiple", c.width_multiple, 0.01, 4.0);
    r.choice("backbone", c.backbone,
             {"EfficientRep", "EfficientRep6", "CSPBepBackbone", "CSPBepBackbone_P6"});
    r.choice("neck", c.neck,
             {"RepPANNeck", "RepBiFPANNeck", "RepBiFPANNeck6", "CSPRepBiFPANNeck",
              "CSPRepBiFPANNeck_P6"});
    const bool six_neck = c.neck.ends_with("6");
    require(c.p6() == six_neck, "neck", "is {}, for {} levels, but backbone {} has {}", c.neck,
            six_neck ? 4 : 3, c.backbone, c.p6() ? 4 : 3);
    const size_t stages = c.p6() ? 6 : 5;
    list("backbone_channels", c.backbone_channels, stages, c.backbone);
    list("backbone_repeats", c.backbone_repeats, stages, c.backbone);
    list("neck_channels", c.neck_channels, 6, c.neck);
    list("neck_repeats", c.neck_repeats, six_neck ? 6 : 4, c.neck);
    std::vector<int64_t> strides = c.strides();
    r.get("strides", strides);
    require(strides == c.strides(), "strides", "is [{}], but backbone {} gives [{}]",
            fmt::join(strides, ", "), c.backbone, fmt::join(c.strides(), ", "));
  }

  void stages() {
    r.get("cspsppf", c.cspsppf);
    const bool csp = c.csp_backbone() || c.csp_neck();
    for (const char* key : {"stage_block", "csp_e"})
      require(csp || !r.has(key), key, "is given, but neither {} nor {} has CSP stages", c.backbone,
              c.neck);
    r.choice("stage_block", c.stage_block, {"BepC3", "MBLABlock"});
    r.number("csp_e", c.csp_e, 0.1, 1.0);
    for (size_t i = 0; csp && i < c.neck_channels.size(); ++i)
      require(static_cast<double>(c.channels(c.neck_channels[i])) * c.csp_e >= 1, "csp_e",
              "is {}, which leaves none of {} channels", c.csp_e, c.channels(c.neck_channels[i]));
  }

  void blocks() {
    std::vector<std::string> modes;
    for (const Mode& m : kModes) modes.emplace_back(m.name);
    const std::string before = c.training_mode;
    r.choice("training_mode", c.training_mode, modes);
    const std::string fixed = mode_of(c.training_mode).activation;
    // a preset's activation belongs to its training mode
    if (c.training_mode != before) c.activation = "relu";
    if (!fixed.empty()) c.activation = fixed;
    r.choice("activation", c.activation, block_activations());
    require(fixed.empty() || c.activation == fixed, "activation",
            "is {}, but training mode {} means {}", c.activation, c.training_mode, fixed);
  }

  void head() {
    r.get("fuse_ab", c.fuse_ab);
    r.get("distill_ns", c.distill_ns);
    r.get("objectness", c.objectness);
    r.get("use_dfl", c.use_dfl);
    r.number("reg_max", c.reg_max, 0, 64);
    require(c.use_dfl == (c.reg_max > 0), "reg_max", "is {} with 'model.use_dfl' {}", c.reg_max,
            c.use_dfl);
    require(!(c.fuse_ab && c.distill_ns), "distill_ns", "is true together with 'model.fuse_ab'");
    require(!c.distill_ns || c.use_dfl, "distill_ns",
            "is true, which needs 'model.use_dfl' true and a 'model.reg_max'");
    require(c.fuse_ab || !r.has("anchors"), "anchors", "is given, but 'model.fuse_ab' is false");
    r.get("anchors", c.anchors);
    if (c.fuse_ab) anchors();
    r.choice("iou_type", c.iou_type, {"iou", "giou", "diou", "ciou", "siou"});
  }

  void anchors() const {
    const size_t levels = c.strides().size();
    require(c.anchors.size() == levels, "anchors",
            "has {} levels, {} has {} (fuse_ab needs w, h of each anchor of each level)",
            c.anchors.size(), c.backbone, levels);
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

  ConfigReader& r;
  Yolov6Config& c;
};

}  // namespace

Yolov6Config read_yolov6_config(ConfigReader r, int64_t num_classes) {
  std::string type = Yolov6Config{}.type;
  r.choice("type", type, yolov6_preset_names());
  Yolov6Config c = yolov6_preset(type);
  c.num_classes = num_classes;
  Reader(r, c).read();
  r.finish();
  return c;
}

}  // namespace sextant
