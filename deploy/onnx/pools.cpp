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
  void reduce_mean();
};

void Pools::max_pool() {
  const int x = plain(0);
  const std::vector<int64_t> kernel = integers("kernel_shape", {0, 0}, 1, 64);
  const OnnxWindow g = window(shape(x), kernel[0], kernel[1]);
  check(kernel[0] >= 1 && kernel[0] == kernel[1] && g.dilation == std::array<int64_t, 2>{1, 1},
        "only square kernels without dilation are supported");
  for (const int64_t p : g.pads)
    check(p == g.pads[0], "only equal padding on all sides is supported");
  const auto rest = [&](int d) { return (shape(x)[d] + 2 * g.pads[0] - kernel[0]) % g.stride; };
  check(integer("ceil_mode", 0, 0, 1) == 0 || (rest(1) == 0 && rest(2) == 0),
        "ceil_mode is not supported");
  Node node;
  node.inputs = {x};
  node.attributes =
      MaxPoolAttributes{.kernel = kernel[0], .stride = g.stride, .padding = g.pads[0]};
  result(add(std::move(node)));
}

void Pools::global_average_pool() {
  Node node;
  node.attributes = GlobalAvgPoolAttributes{};
  node.inputs = {plain(0)};
  result(add(std::move(node)));
}

void Pools::reduce_mean() {
  std::vector<int64_t> axes = integers_or_input("axes", 1);
  for (int64_t& a : axes) a += a < 0 ? 4 : 0;
  std::ranges::sort(axes);
  check(!input(0).flat && axes == std::vector<int64_t>{2, 3}, "only axes 2 and 3 are supported");
  global_average_pool();
  output().flat = integer("keepdims", 1, 0, 1) == 0;
}

constexpr OnnxImport kImports[] = {imports<&Pools::global_average_pool>("GlobalAveragePool"),
                                   imports<&Pools::max_pool>("MaxPool"),
                                   imports<&Pools::reduce_mean>("ReduceMean")};

// ---- export

void export_max_pool(OnnxExporter& e, const Node& node) {
  const auto& a = node.as<MaxPoolAttributes>();
  e.write("MaxPool", node, {e.in(node)},
          {{"kernel_shape", std::vector<int64_t>(2, a.kernel)},
           {"pads", std::vector<int64_t>(4, a.padding)},
           {"strides", std::vector<int64_t>(2, a.stride)}});
}

void export_global_avg_pool(OnnxExporter& e, const Node& node) {
  e.write("GlobalAveragePool", node, {e.in(node)});
}

constexpr OnnxExport kExports[] = {{NodeKind::kMaxPool, export_max_pool},
                                   {NodeKind::kGlobalAvgPool, export_global_avg_pool}};

}  // namespace

OnnxNodes pool_nodes() { return {kImports, kExports}; }

}  // namespace sextant::deploy
