// SPDX-License-Identifier: Apache-2.0
#include "convolutions.h"

#include <vector>

#include "apps/model_files/preset_graph.h"
#include "core/error.h"
#include "deploy/graph/conv_layers.h"
#include "kernels/conv_choice.h"
#include "kernels/cuda/libraries/choose_conv.h"

namespace sextant::bench {
namespace {

using deploy::ConvLayer;

// Not null: the measurement brings memory of its own (kernels/cuda/libraries/choose_conv.h).
template <class T>
T* something() {
  static T value{};
  return &value;
}

template <class P>
Json row_of(const ConvLayer& layer, const P& p) {
  const kernels::ConvVerdict v = kernels::cuda::measure(p, {});
  const double gflop = 1e-9 * layer.shape.flops();
  Json row = {{"layer", layer.name},
              {"what", kernels::conv_key(p)},
              {"count", layer.count},
              {"gflop", gflop}};
  const auto add = [&](const std::string& name, double us) {
    if (us <= 0) return;
    row[name + "_us"] = us;
    row[name + "_tflops"] = 1e3 * gflop / us;
  };
  add("ours", v.ours_us);
  add("cudnn", v.library_us);
  if (!v.note.empty()) row["note"] = v.note;
  fmt::print(stderr, "{:<90} ours {:>9.1f} us  cuDNN {:>9.1f} us  {}\n", kernels::conv_key(p),
             v.ours_us, v.library_us, v.note);
  return row;
}

}  // namespace

Json measure_convolutions(const std::string& preset, int64_t batch, int64_t size) {
  Json rows = Json::array();
  for (const ConvLayer& layer :
       deploy::conv_layers(apps::preset_graph(preset), batch, size, size)) {
    kernels::ConvForward forward;
    forward.shape = layer.shape;
    forward.dtype = DType::kF16;
    rows.push_back(row_of(layer, forward));
    kernels::ConvBackwardData data;
    data.shape = layer.shape;
    data.dtype = DType::kF16;
    rows.push_back(row_of(layer, data));
    kernels::ConvBackwardWeight weight;
    weight.shape = layer.shape;
    weight.dtype = DType::kF16;
    rows.push_back(row_of(layer, weight));
    kernels::ConvInt8Forward int8;
    int8.shape = layer.shape;
    int8.bias = int8.factor = something<float>();
    int8.epilogue = layer.epilogue;
    if (layer.epilogue.activation == Activation::kSiLU) int8.epilogue.activation_scale = 0.5f;
    if (layer.residual) {
      int8.residual = something<int8_t>();
    }
    rows.push_back(row_of(layer, int8));
  }
  return rows;
}

}  // namespace sextant::bench
