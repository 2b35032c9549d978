// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/detector.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "core/rng.h"
#include "core/text.h"
#include "deploy/onnx/evaluate.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

constexpr int64_t kMaxBins = 64;
constexpr double kTolerance =
    2e-4;  // f32 against double: error of a box in pixels, relative to its size

struct Map {
  std::string name;
  Shape shape;                // [N,H,W,C]
  std::vector<float> values;  // random, NHWC
};

// The maps of one stride, ordered by channels, then as in the model.
using Level = std::vector<Map>;

// The role of each map of a level; the positions are the same in every level.
struct Roles {
  size_t cls = 0, reg = 1, obj = 2;
  bool objectness = false;
  bool descending = false;  // the largest stride first
  float cell_offset = 0.5f;
};

class Finder {
 public:
  explicit Finder(const OnnxModelEnd& end) : end_(end), evaluator_(end.opset) {}

  // Levels from the smallest stride up; false if the maps are not the pyramid of a detector.
  bool set_levels(const std::vector<std::string>& names) {
    if (names.empty() || names.size() > 3 * kernels::kMaxLevels) return false;
    const Shape image = *end_.maps(end_.image);
    std::map<int64_t, Level> by_stride;
    for (const std::string& name : names) {
      const Shape& s = *end_.maps(name);
      const int64_t stride = image[1] / s[1];
      if (s[1] * stride != image[1] || s[2] * stride != image[2]) return false;
      by_stride[stride].push_back({name, s, {}});
    }
    for (auto& [stride, level] : by_stride) {
      std::ranges::stable_sort(level, {}, [](const Map& m) { return m.shape[3]; });
      strides_.push_back(stride);
      levels_.push_back(std::move(level));
    }
    for (const Level& level : levels_) {
      if (level.size() != levels_[0].size()) return false;
      for (size_t m = 0; m < level.size(); ++m)
        if (level[m].shape[3] != levels_[0][m].shape[3]) return false;
    }
    return levels_.size() <= kernels::kMaxLevels && levels_[0].size() >= 2 &&
           levels_[0].size() <= 3;
  }

  std::vector<Roles> possible_roles() const {
    std::vector<Roles> out;
    std::vector<size_t> order(levels_[0].size());
    std::iota(order.begin(), order.end(), size_t{0});
    do {
      const auto channels = [&](size_t i) { return levels_[0][order[i]].shape[3]; };
      Roles r{order[0], order[1], 2, order.size() == 3};
      if (r.objectness) r.obj = order[2];
      const bool fits = channels(1) % 4 == 0 && channels(1) / 4 <= kMaxBins &&
                        (!r.objectness || channels(2) == 1);
      if (fits) out.push_back(r);
    } while (std::ranges::next_permutation(order).found);
    return out;
  }
  int64_t classes(const Roles& r) const { return levels_[0][r.cls].shape[3]; }

  OnnxDetector detector(const Roles& r) const {
    OnnxDetector d;
    d.attributes.num_classes = classes(r);
    d.attributes.reg_max = levels_[0][r.reg].shape[3] / 4 - 1;
    d.attributes.objectness = r.objectness;
    d.attributes.grid_cell_offset = r.cell_offset;
    for (const size_t l : order_of(r)) {
      d.attributes.strides.push_back(strides_[l]);
      d.inputs.push_back(levels_[l][r.cls].name);
      d.inputs.push_back(levels_[l][r.reg].name);
      if (r.objectness) d.inputs.push_back(levels_[l][r.obj].name);
    }
    return d;
  }

  // ---- the nodes behind the maps

  // Walks from the outputs back to the last convolutions; false if something else is found there.
  bool trace_back() {
    for (const onnx::NodeProto& n : end_.graph.node())
      for (const std::string& o : n.output())
        if (!o.empty() && !makers_.emplace(o, &n).second) return false;
    std::vector<std::string> maps;
    std::set<std::string> seen;
    std::vector<std::string> open;
    for (const auto& o : end_.graph.output()) open.push_back(o.name());
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      if (name.empty() || !seen.insert(name).second) continue;
      if (name == end_.image) continue;
      const auto made = makers_.find(name);
      if (made == makers_.end()) continue;  // a constant
      const std::string& op = made->second->op_type();
      if (end_.maps(name) && (op == "Conv" || op == "DequantizeLinear")) {
        maps.push_back(name);
        continue;
      }
      behind_.insert(made->second);
      open.insert(open.end(), made->second->input().begin(), made->second->input().end());
    }
    std::vector<std::string> in_order;  // in the order of the nodes
    for (const onnx::NodeProto& n : end_.graph.node())
      if (n.output_size() > 0 && std::ranges::find(maps, n.output(0)) != maps.end())
        in_order.push_back(n.output(0));
    return set_levels(in_order);
  }

  // Computes everything that depends only on random maps.
  void evaluate() {
    std::set<std::string> read;
    for (const onnx::NodeProto* n : behind_) read.insert(n->input().begin(), n->input().end());
    const Shape image = *end_.maps(end_.image);  // only its shape is read
    if (read.contains(end_.image))
      attempt([&] {
        evaluator_.set(end_.image, zeros_array({end_.batch, image[3], image[1], image[2]}));
      });
    for (const onnx::TensorProto& t : end_.graph.initializer())
      if (read.contains(t.name())) attempt([&] { evaluator_.set(t); });
    Rng rng(0x6465636f6465);
    for (Level& level : levels_)
      for (Map& m : level) {
        const int64_t height = m.shape[1], width = m.shape[2], channels = m.shape[3];
        OnnxArray a = zeros_array({end_.batch, channels, height, width});
        for (int64_t n = 0; n < end_.batch; ++n)
          for (int64_t p = 0; p < height * width; ++p)
            for (int64_t c = 0; c < channels; ++c) {
              m.values.push_back(static_cast<float>(rng.uniform(-2, 3)));
              a.values[static_cast<size_t>((n * channels + c) * height * width + p)] =
                  m.values.back();
            }
        evaluator_.set(m.name, std::move(a));
      }
    for (const onnx::NodeProto& n : end_.graph.node())
      if (behind_.contains(&n)) attempt([&] { evaluator_.run(n); });
  }

  // Whether the outputs are decoded from maps in these roles.
  bool explains(const Roles& r) const {
    const std::vector<float> rows = decoded(r);
    std::set<std::string> corners, scores;
    for (const auto& [name, maker] : makers_) {
      if (!behind_.contains(maker)) continue;
      if (is_decoded(name, rows, classes(r)) && is_all({name})) return true;
      if (is_corners(name, rows, classes(r))) corners.insert(name);
      if (is_scores(name, rows, classes(r))) scores.insert(name);
    }
    corners.insert(scores.begin(), scores.end());
    return !scores.empty() && corners.size() > scores.size() && is_all(corners);
  }

 private:
  template <class F>
  static void attempt(const F& f) {
    try {
      f();
    } catch (const Error&) {  // no value; nodes that read it get none either
    }
  }

  std::vector<size_t> order_of(const Roles& r) const {
    std::vector<size_t> order(levels_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (r.descending) std::ranges::reverse(order);
    return order;
  }

  std::vector<float> decoded(const Roles& r) const {
    const OnnxDetector d = detector(r);
    kernels::HeadMaps p;
    p.batch = end_.batch;
    p.classes = d.attributes.num_classes;
    p.reg_max = d.attributes.reg_max;
    p.cell_offset = d.attributes.grid_cell_offset;
    for (const size_t l : order_of(r)) {
      kernels::DecodeLevel& level = p.level[static_cast<size_t>(p.levels++)];
      level.cls = levels_[l][r.cls].values.data();
      level.reg = levels_[l][r.reg].values.data();
      if (r.objectness) level.obj = levels_[l][r.obj].values.data();
      level.height = levels_[l][0].shape[1];
      level.width = levels_[l][0].shape[2];
      level.stride = static_cast<float>(strides_[l]);
    }
    std::vector<float> rows(static_cast<size_t>(p.batch * p.anchors() * (5 + p.classes)));
    kernels::backend(Device::kCpu).decode({p, rows.data()});
    return rows;
  }

  bool is_decoded(const std::string& name, const std::vector<float>& rows, int64_t classes) const {
    const OnnxArray* a = evaluator_.find(name);
    if (!a || a->dims.size() != 3 || a->dims[0] != end_.batch) return false;
    const int64_t full = 5 + classes, anchors = std::ssize(rows) / full / end_.batch;
    const bool with = a->dims[1] == anchors && a->dims[2] == full;
    const bool without = a->dims[1] == anchors && a->dims[2] == full - 1;
    const bool turned = a->dims[1] == full - 1 && a->dims[2] == anchors;
    if (!with && !without && !turned) return false;
    for (int64_t n = 0; n < end_.batch; ++n)
      for (int64_t i = 0; i < anchors; ++i)
        for (int64_t k = 0; k < full; ++k) {
          const double want = rows[static_cast<size_t>((n * anchors + i) * full + k)];
          if (k == 4 && !with) {
            if (want != 1) return false;  // an objectness that our node cannot keep
            continue;
          }
          const int64_t c = k > 4 && !with ? k - 1 : k;
          const int64_t at =
              turned ? (n * (full - 1) + c) * anchors + i : (n * anchors + i) * a->dims[2] + c;
          if (!near(a->values[static_cast<size_t>(at)], want)) return false;
        }
    return true;
  }

  static bool near(double value, double want) {
    return std::abs(value - want) <= kTolerance * (1 + std::abs(want));
  }

  // [N, A, 4]: left, top, right, bottom.
  bool is_corners(const std::string& name, const std::vector<float>& rows, int64_t classes) const {
    const int64_t full = 5 + classes, anchors = std::ssize(rows) / full;
    const OnnxArray* a = evaluator_.find(name);
    if (!a || a->dims != std::vector<int64_t>{end_.batch, anchors / end_.batch, 4}) return false;
    for (int64_t i = 0; i < anchors; ++i)
      for (size_t k = 0; k < 4; ++k) {
        const float* row = rows.data() + i * full;
        const double half = row[2 + k % 2] / 2.0, size = std::abs(2 * half);
        const double want = k < 2 ? row[k] - half : row[k % 2] + half;
        const double value = a->values[static_cast<size_t>(i) * 4 + k];
        if (!(std::abs(value - want) <= kTolerance * (1 + std::abs(want) + size))) return false;
      }
    return true;
  }

  // [N, classes, A]: class scores times the objectness.
  bool is_scores(const std::string& name, const std::vector<float>& rows, int64_t classes) const {
    const int64_t full = 5 + classes, anchors = std::ssize(rows) / full / end_.batch;
    const OnnxArray* a = evaluator_.find(name);
    if (!a || a->dims != std::vector<int64_t>{end_.batch, classes, anchors}) return false;
    for (int64_t n = 0; n < end_.batch; ++n)
      for (int64_t c = 0; c < classes; ++c)
        for (int64_t i = 0; i < anchors; ++i) {
          const float* row = rows.data() + (n * anchors + i) * full;
          const auto at = static_cast<size_t>((n * classes + c) * anchors + i);
          if (!near(a->values[at], static_cast<double>(row[4]) * row[5 + c])) return false;
        }
    return true;
  }

  // A value is an output, or all outputs are computed from these alone by non-maximum suppression.
  bool is_all(const std::set<std::string>& rows) const {
    for (const auto& o : end_.graph.output())
      if (rows.contains(o.name())) return rows.size() == 1;
    std::set<std::string> seen;
    std::vector<std::string> open;
    for (const auto& o : end_.graph.output()) open.push_back(o.name());
    bool suppresses = false;
    while (!open.empty()) {
      const std::string name = open.back();
      open.pop_back();
      if (name.empty() || rows.contains(name) || !seen.insert(name).second) continue;
      const auto made = makers_.find(name);
      if (made == makers_.end()) continue;
      if (!behind_.contains(made->second)) return false;  // reads the maps again
      const std::string& op = made->second->op_type();
      suppresses |=
          op.find("NonMaxSuppression") != std::string::npos || op.find("NMS") != std::string::npos;
      open.insert(open.end(), made->second->input().begin(), made->second->input().end());
    }
    return suppresses;
  }

  const OnnxModelEnd& end_;
  OnnxEvaluator evaluator_;
  std::vector<int64_t> strides_;  // ascending
  std::vector<Level> levels_;
  std::map<std::string, const onnx::NodeProto*> makers_;
  std::set<const onnx::NodeProto*> behind_;
};

}  // namespace

std::optional<OnnxDetector> find_detector(const OnnxModelEnd& end) {
  Finder finder(end);
  if (!finder.trace_back()) return std::nullopt;
  finder.evaluate();
  for (Roles r : finder.possible_roles())
    for (const bool descending : {false, true})
      for (const float offset : {end.cell_offset, Roles{}.cell_offset}) {
        r.descending = descending;
        r.cell_offset = offset;
        if (finder.explains(r)) return finder.detector(r);
      }
  return std::nullopt;
}

OnnxDetector detector_of_maps(const OnnxModelEnd& end, int64_t classes) {
  std::vector<std::string> names;
  std::string list;
  for (const auto& o : end.graph.output()) {
    const Shape* s = end.maps(o.name());
    check(s != nullptr, "output '{}' is not a map", excerpt(o.name()));
    names.push_back(o.name());
    list += fmt::format("{}[{},{},{},{}]", list.empty() ? "" : ", ", (*s)[0], (*s)[3], (*s)[1],
                        (*s)[2]);
  }
  Finder finder(end);
  check(finder.set_levels(names),
        "outputs {} are not two or three maps of the same channels at each stride", list);
  std::vector<Roles> roles = finder.possible_roles();
  if (classes > 0)
    std::erase_if(roles, [&](const Roles& r) { return finder.classes(r) != classes; });
  check(!roles.empty(), "outputs {} are not class logits{} and distances of each level", list,
        classes > 0 ? fmt::format(" of {} classes", classes) : "");
  // The official heads have 4 channels of distances, or 17 bins of each.
  if (roles.size() > 1)
    std::erase_if(roles, [&](const Roles& r) {
      const int64_t reg_max = finder.detector(r).attributes.reg_max;
      return reg_max != 0 && reg_max != 16;
    });
  check(roles.size() == 1,
        "outputs {}: give the class names, to tell which of them are class logits", list);
  return finder.detector(roles[0]);
}

}  // namespace sextant::deploy
