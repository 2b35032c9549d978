// SPDX-License-Identifier: Apache-2.0
#include "models/import/recognise.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace sextant {
namespace {

enum class Stage { kRepBlock, kBepC3, kMbla };
enum class Neck { kRepPan, kBiFpan };

// What distinguishes the kinds; the rest of a model follows from its kind.
struct Structure {
  const char* type;
  Stage stage;
  Neck neck;
  int64_t levels;
  int64_t stem;    // output channels of the stem: 64 * width_multiple
  int64_t blocks;  // in ERBlock_4, which determines depth_multiple
  bool operator==(const Structure&) const = default;
};

constexpr std::array<Structure, 15> kKinds{{
    {"yolov6n_opt", Stage::kRepBlock, Neck::kRepPan, 3, 16, 6},
    {"yolov6t_opt", Stage::kRepBlock, Neck::kRepPan, 3, 24, 6},
    {"yolov6s_opt", Stage::kRepBlock, Neck::kRepPan, 3, 32, 6},
    {"yolov6n", Stage::kRepBlock, Neck::kBiFpan, 3, 16, 6},
    {"yolov6s", Stage::kRepBlock, Neck::kBiFpan, 3, 32, 6},
    {"yolov6m", Stage::kBepC3, Neck::kBiFpan, 3, 48, 5},
    {"yolov6l", Stage::kBepC3, Neck::kBiFpan, 3, 64, 9},
    {"yolov6n6", Stage::kRepBlock, Neck::kBiFpan, 4, 16, 6},
    {"yolov6s6", Stage::kRepBlock, Neck::kBiFpan, 4, 32, 6},
    {"yolov6m6", Stage::kBepC3, Neck::kBiFpan, 4, 48, 5},
    {"yolov6l6", Stage::kBepC3, Neck::kBiFpan, 4, 64, 9},
    {"yolov6s_mbla", Stage::kMbla, Neck::kBiFpan, 3, 32, 3},
    {"yolov6m_mbla", Stage::kMbla, Neck::kBiFpan, 3, 48, 3},
    {"yolov6l_mbla", Stage::kMbla, Neck::kBiFpan, 3, 64, 3},
    {"yolov6x_mbla", Stage::kMbla, Neck::kBiFpan, 3, 64, 6},
}};

// How the stem names its parts in each training mode. The first match counts.
struct Mode {
  const char* name;
  const char* stem;   // a tensor that only this mode has
  const char* dense;  // the weight of its 3x3 convolution
  const char* block;  // where names are not enough: the class of the block; else nullptr
};
constexpr std::array<Mode, 7> kModes{{
    {"repvgg", "rbr_1x1.conv.weight", "rbr_dense.conv.weight", nullptr},
    {"qarepvgg", "rbr_1x1.weight", "rbr_dense.conv.weight", "yolov6.layers.common.QARepVGGBlock"},
    {"qarepvggv2", "rbr_1x1.weight", "rbr_dense.conv.weight", nullptr},
    {"hyper_search", "scale_conv.weight", "conv.weight", nullptr},
    {"repopt", "conv.weight", "conv.weight", nullptr},
    {"conv_relu", "block.conv.weight", "block.conv.weight", "yolov6.layers.common.ConvBNReLU"},
    {"conv_silu", "block.conv.weight", "block.conv.weight", nullptr},
}};

class State {
 public:
  State(const std::vector<std::pair<std::string, Shape>>& state, const std::string& where)
      : shapes_(state.begin(), state.end()), where_(where) {}

  const Shape* find(const std::string& name) const {
    const auto it = shapes_.find(name);
    return it == shapes_.end() ? nullptr : &it->second;
  }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  // First dimension of a convolution's weight or a prediction's.
  int64_t outputs(const std::string& name) const {
    const Shape* s = find(name);
    check(s != nullptr, "{}: has no tensor '{}', so it is not a YOLOv6", where_, name);
    check(s->rank() == 4, "{}: tensor '{}' is {}, must have four dimensions", where_, name,
          s->str());
    return (*s)[0];
  }
  bool has_prefix(const std::string& prefix) const { return count(prefix) > 0; }
  // Number of different words after the prefix.
  int64_t count(const std::string& prefix) const {
    std::set<std::string_view> words;
    for (auto it = shapes_.lower_bound(prefix);
         it != shapes_.end() && it->first.starts_with(prefix); ++it) {
      const auto rest = std::string_view(it->first).substr(prefix.size());
      words.insert(rest.substr(0, rest.find('.')));
    }
    return static_cast<int64_t>(words.size());
  }

 private:
  std::map<std::string, Shape> shapes_;
  const std::string& where_;
};

constexpr const char* kStem = "backbone.stem.";
constexpr const char* kFourth = "backbone.ERBlock_4.1.";

const Mode& mode_of(const State& s, const std::string& where, const std::string& block) {
  check(!s.has_prefix(std::string(kStem) + "rbr_reparam."),
        "{}: is fused for deployment (rbr_reparam); import the checkpoint it was made from", where);
  const auto& found = std::ranges::find_if(kModes, [&](const Mode& m) {
    return s.has(kStem + std::string(m.stem)) && (!m.block || block == m.block);
  });
  check(found != kModes.end(), "{}: has no stem of a YOLOv6 (no '{}...' of a known training mode)",
        where, kStem);
  return *found;
}

Structure structure_of(const State& s, int64_t stem) {
  Structure k{nullptr, Stage::kRepBlock, Neck::kRepPan, s.count("detect.cls_preds."), stem, 0};
  if (s.has_prefix("neck.Bifusion0.")) k.neck = Neck::kBiFpan;
  std::string blocks = kFourth;
  if (s.has_prefix(blocks + "m.0.")) {
    k.stage = Stage::kMbla;
    for (int64_t i = 0; i < s.count(blocks + "m."); ++i)
      k.blocks += s.count(blocks + "m." + std::to_string(i) + ".");
    return k;
  }
  if (s.has_prefix(blocks + "m.")) {
    k.stage = Stage::kBepC3;
    blocks += "m.";
  }
  k.blocks = s.count(blocks + "block.") + (s.has_prefix(blocks + "conv1.") ? 1 : 0);
  return k;
}

// YOLOv6Lite: the name of its stem, and the channels of its second stage, which its size follows from.
constexpr const char* kLiteStem = "backbone.conv_0.block.conv.weight";
constexpr const char* kLiteStage = "backbone.lite_effiblock_2.0.conv_pw_3.block.conv.weight";
struct LiteSize {
  const char* type;
  int64_t channels;
};
constexpr std::array<LiteSize, 3> kLiteSizes{
    {{"yolov6lite_s", 48}, {"yolov6lite_m", 64}, {"yolov6lite_l", 96}}};

RecognisedModel recognise_lite(const State& s, const std::string& where) {
  const int64_t channels = s.outputs(kLiteStage), levels = s.count("detect.cls_preds.");
  const auto found = std::ranges::find(kLiteSizes, channels, &LiteSize::channels);
  check(
      found != kLiteSizes.end() && levels == 4,
      "{}: is not a YOLOv6Lite of the official configs: {} channels in lite_effiblock_2, {} levels",
      where, channels, levels);
  RecognisedModel out;
  out.model = {
      {"type", found->type}, {"training_mode", "repvgg"}, {"use_dfl", false}, {"reg_max", 0}};
  if (s.has("detect.obj_preds.0.weight")) out.model["objectness"] = true;
  out.num_classes = s.outputs("detect.cls_preds.0.weight");
  out.strides = {8, 16, 32, 64};
  out.image_size = 320;
  return out;
}

}  // namespace

RecognisedModel recognise_yolov6(const std::vector<std::pair<std::string, Shape>>& state,
                                 const std::string& where, const std::string& block) {
  const State s(state, where);
  if (s.has(kLiteStem)) return recognise_lite(s, where);
  const Mode& mode = mode_of(s, where, block);
  Structure found = structure_of(s, s.outputs(kStem + std::string(mode.dense)));
  const auto kind = std::ranges::find_if(kKinds, [&](const Structure& k) {
    found.type = k.type;
    return k == found;
  });
  check(kind != kKinds.end(),
        "{}: is not a YOLOv6 of the official configs: {} channels in the stem, {} levels, {} neck, "
        "{} blocks in ERBlock_4",
        where, found.stem, found.levels, found.neck == Neck::kBiFpan ? "BiFusion" : "plain",
        found.blocks);

  RecognisedModel out;
  std::string type = kind->type;
  if (std::string_view(mode.name).starts_with("qarepvgg")) type += "_qa";
  out.num_classes = s.outputs("detect.cls_preds.0.weight");
  const bool distill_ns = s.has("detect.reg_preds_dist.0.weight");
  const int64_t sides =
      s.outputs(distill_ns ? "detect.reg_preds_dist.0.weight" : "detect.reg_preds.0.weight");
  check(sides >= 4 && sides % 4 == 0,
        "{}: detect.reg_preds has {} outputs, not four times as many "
        "as bins",
        where, sides);
  const int64_t reg_max = sides / 4 - 1;
  out.model = {
      {"type", type}, {"training_mode", mode.name}, {"use_dfl", reg_max > 0}, {"reg_max", reg_max}};
  if (s.has("detect.cls_preds_ab.0.weight")) out.model["fuse_ab"] = true;
  if (distill_ns) out.model["distill_ns"] = true;
  if (s.has("detect.obj_preds.0.weight")) out.model["objectness"] = true;
  for (int64_t l = 0; l < found.levels; ++l) out.strides.push_back(int64_t{8} << l);
  out.image_size = found.levels == 4 ? 1280 : 640;
  return out;
}

}  // namespace sextant
