// Shape inference and validation.
#include <cmath>
#include <set>

#include "deploy/graph/graph.h"
#include "kernels/detection/decode.h"

namespace sextant::deploy {
namespace {

constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxSide = 1 << 16;
constexpr int64_t kMaxBatch = 1 << 16;
constexpr int64_t kMaxElements = int64_t{1} << 36;
constexpr size_t kMaxNodes = 1 << 16;

std::string prefix(const Graph& g) { return g.source.empty() ? "deploy" : g.source; }

// One node at a time, with its messages.
class Inference {
 public:
  Inference(const Graph& graph, std::vector<Shape>& shapes) : graph_(graph), shapes_(shapes) {}

  Shape output_of(const Node& node) const {
    switch (node.kind) {
      case NodeKind::kInput:
        return in(node, 0);
      case NodeKind::kConv:
        return conv(node);
      case NodeKind::kDeconv:
        return deconv(node);
      case NodeKind::kMaxPool:
        return max_pool(node);
      case NodeKind::kUpsample: {
        inputs(node, 1);
        Shape s = in(node, 0);
        bounds(node, "scale", node.attributes.scale, 1, 64);
        s[1] *= node.attributes.scale;
        s[2] *= node.attributes.scale;
        return s;
      }
      case NodeKind::kConcat:
        return concat(node);
      case NodeKind::kAdd:
        inputs(node, 2);
        residual_scale(node);
        same(node, in(node, 0), in(node, 1));
        return in(node, 0);
      case NodeKind::kActivation:
        inputs(node, 1);
        return in(node, 0);
      case NodeKind::kSlice: {
        inputs(node, 1);
        Shape s = in(node, 0);
        const auto [begin, end] = std::pair(node.attributes.begin, node.attributes.end);
        require(node, begin >= 0 && begin < end && end <= s[3],
                fmt::format("slice [{},{}) of {} channels", begin, end, s[3]));
        s[3] = end - begin;
        return s;
      }
      case NodeKind::kGlobalAvgPool:
        inputs(node, 1);
        return {in(node, 0)[0], 1, 1, in(node, 0)[3]};
      case NodeKind::kSoftmax:
        inputs(node, 1);
        return in(node, 0);
      case NodeKind::kBatchNorm:
        return batch_norm(node);
      case NodeKind::kDecode:
        return decode(node);
    }
    return {};
  }

 private:
  void require(const Node& node, bool ok, const std::string& what) const {
    check(ok, "{}: node '{}' ({}): {}", prefix(graph_), node.name, name_of(node.kind), what);
  }
  void inputs(const Node& node, size_t n) const {
    require(node, node.inputs.size() == n,
            fmt::format("{} inputs, expected {}", node.inputs.size(), n));
  }
  void bounds(const Node& node, const char* key, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high)
      require(node, false, fmt::format("{} is {}, must be in [{}, {}]", key, value, low, high));
  }
  void same(const Node& node, const Shape& a, const Shape& b) const {
    if (!(a == b)) require(node, false, fmt::format("inputs {} and {} differ", a.str(), b.str()));
  }
  void residual_scale(const Node& node) const {
    require(node, std::isfinite(node.attributes.residual_scale), "residual_scale is not finite");
  }
  const Shape& in(const Node& node, size_t i) const {
    const Shape& s = shapes_[static_cast<size_t>(node.inputs[i])];
    require(node, s.rank() == 4, fmt::format("input of shape {} is no [N,H,W,C]", s.str()));
    return s;
  }
  void bias(const Node& node, int64_t o) const {
    if (!node.bias.defined()) return;
    require(node, node.bias.dtype() == DType::kF32 && node.bias.shape() == Shape{o},
            fmt::format("bias {}, expected F32 [{}]", node.bias.shape().str(), o));
  }
  void weight(const Node& node) const {
    require(node,
            node.weight.defined() && node.weight.dtype() == DType::kF32 &&
                node.weight.shape().rank() == 4 && node.weight.numel() > 0,
            "needs a weight, F32 of rank 4");
    const size_t o = static_cast<size_t>(node.weight.dim(0));
    require(node, node.weight_scale.empty() || node.weight_scale.size() == o,
            fmt::format("{} weight scales for {} channels", node.weight_scale.size(), o));
    for (const float s : node.weight_scale)
      require(node, std::isfinite(s) && s > 0, "weight scales must be positive and finite");
    bias(node, node.weight.dim(0));
  }

  Shape conv(const Node& node) const {
    const Attributes& a = node.attributes;
    inputs(node, a.residual ? 2 : 1);
    weight(node);
    const Shape& x = in(node, 0);
    const Shape& w = node.weight.shape();
    bounds(node, "stride", a.stride, 1, 64);
    bounds(node, "padding", a.padding, 0, 64);
    bounds(node, "kernel", std::max(w[1], w[2]), 1, 64);
    bounds(node, "groups", a.groups, 1, kMaxChannels);
    require(
        node, w[0] % a.groups == 0 && w[3] * a.groups == x[3],
        fmt::format("weight {} with {} groups does not fit input {}", w.str(), a.groups, x.str()));
    const Shape y{x[0], (x[1] + 2 * a.padding - w[1]) / a.stride + 1,
                  (x[2] + 2 * a.padding - w[2]) / a.stride + 1, w[0]};
    require(node, x[1] + 2 * a.padding >= w[1] && x[2] + 2 * a.padding >= w[2],
            fmt::format("input {} is smaller than the kernel", x.str()));
    residual_scale(node);
    if (a.residual) same(node, in(node, 1), y);
    return y;
  }
  Shape deconv(const Node& node) const {
    inputs(node, 1);
    weight(node);
    const Shape& x = in(node, 0);
    const Shape& w = node.weight.shape();
    require(node, w[1] == 2 && w[2] == 2 && w[3] == x[3],
            fmt::format("weight {} does not fit input {}; only 2x2 stride 2", w.str(), x.str()));
    return {x[0], 2 * x[1], 2 * x[2], w[0]};
  }
  Shape max_pool(const Node& node) const {
    const Attributes& a = node.attributes;
    inputs(node, 1);
    const Shape& x = in(node, 0);
    bounds(node, "kernel", a.kernel, 1, 255);
    bounds(node, "stride", a.stride, 1, 64);
    bounds(node, "padding", a.padding, 0, a.kernel / 2);
    require(node, x[1] + 2 * a.padding >= a.kernel && x[2] + 2 * a.padding >= a.kernel,
            fmt::format("input {} is smaller than the kernel", x.str()));
    return {x[0], (x[1] + 2 * a.padding - a.kernel) / a.stride + 1,
            (x[2] + 2 * a.padding - a.kernel) / a.stride + 1, x[3]};
  }
  Shape concat(const Node& node) const {
    require(node, !node.inputs.empty(), "no inputs");
    Shape y = in(node, 0);
    for (size_t i = 1; i < node.inputs.size(); ++i) {
      const Shape& x = in(node, i);
      if (x[0] != y[0] || x[1] != y[1] || x[2] != y[2])
        require(node, false, fmt::format("inputs {} and {} differ", in(node, 0).str(), x.str()));
      y[3] += x[3];
    }
    return y;
  }
  Shape batch_norm(const Node& node) const {
    require(node, !node.inputs.empty() && node.norm.size() == 4 * node.inputs.size(),
            "needs gamma, beta, mean and variance for each branch");
    for (size_t i = 0; i < node.inputs.size(); ++i) same(node, in(node, 0), in(node, i));
    for (const Tensor& t : node.norm)
      require(node, t.defined() && t.dtype() == DType::kF32 && t.numel() == in(node, 0)[3],
              "batch-norm parameters do not fit the channels");
    return in(node, 0);
  }
  Shape decode(const Node& node) const {
    const Attributes& a = node.attributes;
    bounds(node, "num_classes", a.num_classes, 1, kMaxChannels);
    bounds(node, "reg_max", a.reg_max, 0, 1024);
    require(node,
            !a.strides.empty() && a.strides.size() <= kernels::kMaxLevels &&
                node.inputs.size() == a.maps_per_level() * a.strides.size(),
            fmt::format("{} inputs for {} strides, expected {} per level", node.inputs.size(),
                        a.strides.size(), a.maps_per_level()));
    require(node, std::isfinite(a.grid_cell_offset) && std::abs(a.grid_cell_offset) <= 16,
            "absurd grid_cell_offset");
    const Shape& image = shapes_[static_cast<size_t>(graph_.input)];
    int64_t anchors = 0;
    for (size_t l = 0; l < a.strides.size(); ++l) {
      const Shape& cls = in(node, a.maps_per_level() * l);
      const Shape& reg = in(node, a.maps_per_level() * l + 1);
      bounds(node, "stride", a.strides[l], 1, 4096);
      require(node,
              cls[0] == reg[0] && cls[1] == reg[1] && cls[2] == reg[2] && cls[3] == a.num_classes &&
                  reg[3] == 4 * (a.reg_max + 1),
              fmt::format("level {}: inputs {} and {} do not fit {} classes, reg_max {}", l,
                          cls.str(), reg.str(), a.num_classes, a.reg_max));
      if (a.objectness) {
        const Shape& obj = in(node, a.maps_per_level() * l + 2);
        require(node, obj == Shape{cls[0], cls[1], cls[2], 1},
                fmt::format("level {}: objectness {} does not fit classes {}", l, obj.str(),
                            cls.str()));
      }
      require(
          node, cls[1] * a.strides[l] == image[1] && cls[2] * a.strides[l] == image[2],
          fmt::format("level {} is {}x{} at stride {}, the image {}x{}: image sizes must be "
                      "multiples of {}",
                      l, cls[1], cls[2], a.strides[l], image[1], image[2], size_multiple(graph_)));
      anchors += cls[1] * cls[2];
    }
    return {in(node, 0)[0], anchors, 5 + a.num_classes};
  }

  const Graph& graph_;
  std::vector<Shape>& shapes_;
};

void validate_structure(const Graph& g) {
  const std::string at = prefix(g);
  const int count = static_cast<int>(g.tensors.size());
  check(!g.nodes.empty() && g.nodes.size() <= kMaxNodes, "{}: {} nodes", at, g.nodes.size());
  check(g.input >= 0 && g.input < count && g.output >= 0 && g.output < count,
        "{}: input or output tensor missing", at);
  std::set<std::string> names;
  std::vector<bool> made(g.tensors.size(), false);
  for (const Node& node : g.nodes) {
    check(!node.name.empty() && names.insert(node.name).second,
          "{}: node name '{}' is empty or there twice", at, node.name);
    const bool input = node.kind == NodeKind::kInput;
    for (const int t : node.inputs) {
      check(t >= 0 && t < count, "{}: node '{}' reads tensor {}, there are {}", at, node.name, t,
            count);
      check(made[static_cast<size_t>(t)],
            "{}: node '{}' reads tensor '{}' before any node makes it (a cycle, or out of order)",
            at, node.name, g.tensors[static_cast<size_t>(t)].name);
    }
    check(node.output >= 0 && node.output < count && !made[static_cast<size_t>(node.output)],
          "{}: node '{}': its output tensor is missing or made twice", at, node.name);
    check(input == (node.output == g.input) && (!input || node.inputs.empty()),
          "{}: node '{}': the input node must make the input tensor", at, node.name);
    check(node.kind != NodeKind::kDecode || node.output == g.output,
          "{}: node '{}': decode must be the last node", at, node.name);
    made[static_cast<size_t>(node.output)] = true;
  }
  std::set<std::string> tensor_names;
  for (size_t t = 0; t < g.tensors.size(); ++t) {
    const TensorInfo& info = g.tensors[t];
    check(made[t], "{}: tensor '{}': no node makes it", at, info.name);
    check(!info.name.empty() && tensor_names.insert(info.name).second,
          "{}: tensor name '{}' is empty or there twice", at, info.name);
    check(std::isfinite(info.amax) && info.amax >= 0 && info.amax < 1e30f,
          "{}: tensor '{}': amax is {}", at, info.name, info.amax);
    check(info.group >= -1 && info.group < count, "{}: tensor '{}': group {}", at, info.name,
          info.group);
  }
  check(g.image_size >= 0 && g.image_size <= kMaxSide, "{}: image_size is {}", at, g.image_size);
}

}  // namespace

int64_t size_multiple(const Graph& graph) {
  int64_t largest = 1;
  for (const Node& node : graph.nodes)
    if (node.kind == NodeKind::kDecode)
      for (const int64_t s : node.attributes.strides) largest = std::max(largest, s);
  return largest;
}

std::vector<Shape> infer_shapes(const Graph& graph, int64_t batch, int64_t height, int64_t width) {
  check(batch >= 1 && batch <= kMaxBatch, "{}: batch {} must be in [1, {}]", prefix(graph), batch,
        kMaxBatch);
  check(height >= 1 && height <= kMaxSide && width >= 1 && width <= kMaxSide,
        "{}: image size {}x{} must be in [1, {}]", prefix(graph), width, height, kMaxSide);
  const int64_t multiple = size_multiple(graph);
  check(height % multiple == 0 && width % multiple == 0,
        "{}: image size {}x{} must be a multiple of {}", prefix(graph), width, height, multiple);
  std::vector<Shape> shapes(graph.tensors.size());
  const Shape& traced = graph.tensors[static_cast<size_t>(graph.input)].shape;
  check(traced.rank() == 4 && traced[3] == 3, "{}: input tensor {} must be [N,H,W,3]",
        prefix(graph), traced.str());
  shapes[static_cast<size_t>(graph.input)] = {batch, height, width, 3};
  const Inference inference(graph, shapes);
  for (const Node& node : graph.nodes) {
    if (node.kind == NodeKind::kInput) continue;
    const Shape y = inference.output_of(node);
    double elements = 1;
    for (const int64_t d : y.dims()) elements *= static_cast<double>(d);
    check(elements > 0 && elements <= static_cast<double>(kMaxElements) &&
              (y.rank() != 4 || y[3] <= kMaxChannels),
          "{}: node '{}': absurd output size {}", prefix(graph), node.name, y.str());
    shapes[static_cast<size_t>(node.output)] = y;
  }
  return shapes;
}

Shape output_shape(const Graph& graph, const Node& node, std::vector<Shape>& shapes) {
  return Inference(graph, shapes).output_of(node);
}

void validate(const Graph& graph) {
  validate_structure(graph);
  const Shape& image = graph.tensors[static_cast<size_t>(graph.input)].shape;
  check(image.rank() == 4, "{}: tensor '{}': shape {} is no [N,H,W,3]", prefix(graph),
        graph.tensors[static_cast<size_t>(graph.input)].name, image.str());
  const std::vector<Shape> shapes = infer_shapes(graph, image[0], image[1], image[2]);
  for (size_t t = 0; t < shapes.size(); ++t)
    check(shapes[t] == graph.tensors[t].shape, "{}: tensor '{}' has shape {}, expected {}",
          prefix(graph), graph.tensors[t].name, graph.tensors[t].shape.str(), shapes[t].str());
}

}  // namespace sextant::deploy
