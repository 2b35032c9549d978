// SPDX-License-Identifier: Apache-2.0
// Pooling.
#include <algorithm>

#include "deploy/onnx/exporter.h"
#include "deploy/onnx/importer.h"
#include "deploy/onnx/nodes.h"

namespace sextant::deploy {
namespace {

// ---- import

class Pools : public OnnxOperator {
 public:
  using OnnxOperator::OnnxOperator;
  void max_pool();
  void global_average_pool();
  void global_max_pool();
  void reduce_mean();
};

void Pools::max_pool() {
  const int x = image(0);
  const std::vector<int64_t> kernel = integers("kernel_shape", {0, 0}, 1, 64);
  const OnnxWindow g = window(shape(x), kernel[0], kernel[1]);
  ignore({"storage_order"});  // of the second output
  check(kernel[0] >= 1 && kernel[0] == kernel[1] && g.dilation == std::array<int64_t, 2>{1, 1},
        "only square kernels without dilation are supported");
  Node node;
  node.inputs = {x};
  MaxPoolAttributes a{.kernel = kernel[0], .stride = g.one_stride(), .padding = g.pads[0]};
  check(g.pads[0] == g.pads[1] && g.pads[2] >= g.pads[0] && g.pads[3] >= g.pads[0] &&
            2 * a.padding <= a.kernel,
        "padding {}, {}, {}, {} is not supported", g.pads[0], g.pads[1], g.pads[2], g.pads[3]);
  const bool up = integer("ceil_mode", 0, 0, 1) == 1;
  // The output's size as ONNX defines it; padding at the end counts only as room for a window.
  const auto expected = [&](size_t d) {
    const int64_t size = shape(x)[static_cast<int>(d) + 1];
    const int64_t rest = size + g.pads[d] + g.pads[d + 2] - a.kernel;
    check(rest >= 0, "its input of {} is smaller than the kernel", size);
    const bool more =
        up && rest % a.stride != 0 && (rest / a.stride + 1) * a.stride < size + g.pads[d];
    return rest / a.stride + 1 + more;
  };
  Shape y;
  for (const bool ceil_mode : {false, true}) {
    a.ceil_mode = ceil_mode;
    node.attributes = a;
    node.output = -1;
    y = output_shape(importer_.graph, node, importer_.shapes);
    if (y[1] == expected(0) && y[2] == expected(1)) return result(add(std::move(node)));
  }
  fail("its padding and ceil_mode are not supported for an input of {}x{}", shape(x)[1],
       shape(x)[2]);
}

void Pools::global_average_pool() {
  Node node;
  node.attributes = GlobalAvgPoolAttributes{};
  node.inputs = {image(0)};
  result(add(std::move(node)));
}

// A window as large as the map.
void Pools::global_max_pool() {
  const int x = image(0);
  check(shape(x)[1] == shape(x)[2], "only square maps are supported, not {}x{}", shape(x)[1],
        shape(x)[2]);
  Node node;
  node.inputs = {x};
  node.attributes = MaxPoolAttributes{.kernel = shape(x)[1]};
  result(add(std::move(node)));
}

void Pools::reduce_mean() {
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  ignore({"noop_with_empty_axes"});  // there are axes
  check(axes == std::vector<int64_t>{2, 3}, "only axes 2 and 3 are supported");
  global_average_pool();
  output().flat = integer("keepdims", 1, 0, 1) == 0;
}

constexpr OnnxImport kImports[] = {imports<&Pools::global_average_pool>("GlobalAveragePool"),
                                   imports<&Pools::global_max_pool>("GlobalMaxPool"),
                                   imports<&Pools::max_pool>("MaxPool"),
                                   imports<&Pools::reduce_mean>("ReduceMean")};

// ---- export

void export_max_pool(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<MaxPoolAttributes>();
  std::vector<OnnxAttribute> attributes{{"kernel_shape", std::vector<int64_t>(2, a.kernel)},
                                        {"pads", std::vector<int64_t>(4, a.padding)},
                                        {"strides", std::vector<int64_t>(2, a.stride)}};
  if (a.ceil_mode) attributes.insert(attributes.begin(), {"ceil_mode", int64_t{1}});
  e.write("MaxPool", node, {e.in(node)}, attributes);
}

void export_average_pool(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<AveragePoolAttributes>();
  std::vector<OnnxAttribute> attributes{
      {"kernel_shape", std::vector<int64_t>{a.kernel_height, a.kernel_width}},
      {"pads", std::vector<int64_t>{a.top, a.left, a.bottom, a.right}},
      {"strides", std::vector<int64_t>(2, a.stride)}};
  if (a.ceil_mode) attributes.insert(attributes.begin(), {"ceil_mode", int64_t{1}});
  e.write("AveragePool", node, {e.in(node)}, attributes);
}

void export_global_avg_pool(OnnxExporter& e, const Node& node) {
  e.write("GlobalAveragePool", node, {e.in(node)});
}

constexpr OnnxExport kExports[] = {{NodeKind::kMaxPool, export_max_pool},
                                   {NodeKind::kAveragePool, export_average_pool},
                                   {NodeKind::kGlobalAvgPool, export_global_avg_pool}};

}  // namespace

OnnxNodes pool_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
