// SPDX-License-Identifier: Apache-2.0
#include "convolutions.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "apps/model_files/preset_graph.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "deploy/graph/conv_layers.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "onednn.h"
#include "peak.h"

namespace sextant::bench {
namespace {

using kernels::ConvShape;
using kernels::cpu::ConvAlgorithm;

// One way to compute a layer, and the smallest time that it took.
struct Contender {
  std::string name;
  std::function<void()> run;
  double seconds = std::numeric_limits<double>::infinity();
};

// A layer's tensors, and who computes it.
struct Layer {
  deploy::ConvLayer form;
  Tensor x, w, bias, factor, y;
  std::vector<Contender> contenders;  // ours, the one that is chosen first; oneDNN's last

  double ours() const { return contenders.front().seconds; }
  const Contender* peer() const {
    return contenders.back().name == "oneDNN" ? &contenders.back() : nullptr;
  }
};

std::vector<ConvAlgorithm> algorithms_for(const ConvShape& s, bool all) {
  std::vector<ConvAlgorithm> list = {ConvAlgorithm::kAuto};
  if (all) list.push_back(ConvAlgorithm::kDirect);
  if (all && s.kh == 3 && s.kw == 3 && s.stride == 1)
    list.insert(list.end(), {ConvAlgorithm::kWinograd2, ConvAlgorithm::kWinograd4});
  return list;
}

Tensor random_floats(int64_t n, Rng& rng, double largest) {
  Tensor t(Shape{n});
  for (float& v : t.span<float>()) v = static_cast<float>(rng.uniform(-largest, largest));
  return t;
}

// Adds ours and oneDNN's for the operands p.
template <class Conv, class Weight, class P, class Peer>
void add_contenders(Layer& layer, const P& p, bool all, const Peer& peer) {
  for (const ConvAlgorithm algorithm : algorithms_for(p.shape, all)) {
    auto conv = std::make_shared<Conv>(p.shape, static_cast<const Weight*>(p.w), algorithm);
    const std::string name(sextant::name_of(conv->algorithm()));
    layer.contenders.push_back({name, [conv, p] { (*conv)(p); }});
  }
  if (auto run = peer(p)) layer.contenders.push_back({"oneDNN", run});
}

void add_float(Layer& layer, bool all, Rng& rng) {
  const ConvShape& s = layer.form.shape;
  layer.x = random_floats(s.x_numel(), rng, 1.0);
  layer.w = random_floats(s.w_numel(), rng, 0.05);
  layer.y = Tensor(Shape{s.y_numel()});
  const kernels::ConvForward p{.shape = s,
                               .x = layer.x.raw(),
                               .w = layer.w.raw(),
                               .bias = layer.bias.f32(),
                               .y = layer.y.raw(),
                               .epilogue = {.activation = layer.form.epilogue.activation}};
  add_contenders<kernels::cpu::ConvF32, float>(layer, p, all, onednn_forward);
}

void add_int8(Layer& layer, bool all, Rng& rng) {
  const ConvShape& s = layer.form.shape;
  layer.x = Tensor(Shape{s.x_numel()}, DType::kU8);
  for (uint8_t& v : layer.x.span<uint8_t>()) v = static_cast<uint8_t>(rng.below(256));
  layer.w = Tensor(Shape{s.w_numel()}, DType::kI8);
  for (int8_t& v : layer.w.span<int8_t>())
    v = static_cast<int8_t>(std::clamp(30.0 * rng.normal(), -127.0, 127.0));
  layer.y = Tensor(Shape{s.y_numel()}, DType::kU8);
  // Sums become a few units, where activations are neither linear nor flat.
  const double terms = static_cast<double>(s.w_numel() / s.oc);
  layer.factor = random_floats(s.oc, rng, 2.0 / (30.0 * 148.0 * std::sqrt(terms)));
  const kernels::ConvInt8Forward p{
      .shape = s,
      .x = layer.x.raw(),
      .w = layer.w.data<int8_t>(),
      .bias = layer.bias.f32(),
      .factor = layer.factor.f32(),
      .y = layer.y.raw(),
      .x_type = DType::kU8,
      .y_type = DType::kU8,
      .epilogue = {.activation = layer.form.epilogue.activation, .activation_scale = 32.0f}};
  add_contenders<kernels::cpu::ConvInt8, int8_t>(layer, p, all, onednn_int8);
}

// The gradients, which pack their weights in each call.
void add_gradient(Layer& layer, bool of_weight, Rng& rng) {
  const ConvShape& s = layer.form.shape;
  layer.x = random_floats(s.x_numel(), rng, 1.0);
  layer.w = random_floats(s.w_numel(), rng, 0.05);
  layer.y = random_floats(s.y_numel(), rng, 1.0);
  if (of_weight) {
    const kernels::ConvBackwardWeight p{
        .shape = s, .x = layer.x.raw(), .dy = layer.y.raw(), .dw = layer.w.f32()};
    layer.contenders.push_back(
        {"ours", [p] { kernels::backend(Device::kCpu).conv_backward_weight(p); }});
    if (auto run = onednn_backward_weight(p)) layer.contenders.push_back({"oneDNN", run});
  } else {
    const kernels::ConvBackwardData p{
        .shape = s, .dy = layer.y.raw(), .w = layer.w.raw(), .dx = layer.x.raw()};
    layer.contenders.push_back(
        {"ours", [p] { kernels::backend(Device::kCpu).conv_backward_data(p); }});
    if (auto run = onednn_backward_data(p)) layer.contenders.push_back({"oneDNN", run});
  }
}

void print(const Layer& layer, double peak) {
  const ConvShape& s = layer.form.shape;
  const double work = s.flops() * 1e-9;
  fmt::print("{:>4} x {:<4} {:>4} -> {:<4} {}x{} s{} {:>2} times {:>7.1f} MFLOP  {:>6.2f} limit ms",
             s.h, s.w, s.ic, s.oc, s.kh, s.kw, s.stride, layer.form.count, work * 1e3,
             work / peak * 1e3);
  for (const Contender& c : layer.contenders)
    fmt::print("  {}: {:.3f} ms {:.0f}/s", c.name, c.seconds * 1e3, work / c.seconds);
  if (layer.peer()) fmt::print("  ratio {:.2f}", layer.ours() / layer.peer()->seconds);
  fmt::print("\n");
}

}  // namespace

Json convolutions(const ConvOptions& o) {
  check(o.kind == "forward" || o.kind == "int8" || o.kind == "data" || o.kind == "weight",
        "conv: unknown kind '{}'; use forward, data, weight or int8", o.kind);
  Rng rng(1);
  std::vector<Layer> layers;
  for (const auto& form :
       deploy::conv_layers(apps::preset_graph(o.preset), o.batch, o.image_size, o.image_size)) {
    Layer& layer = layers.emplace_back();
    layer.form = form;
    layer.bias = random_floats(form.shape.oc, rng, 1.0);
    if (o.kind == "int8")
      add_int8(layer, o.all_algorithms, rng);
    else if (o.kind == "forward")
      add_float(layer, o.all_algorithms, rng);
    else
      add_gradient(layer, o.kind == "weight", rng);
  }
  for (int run = -1; run < o.runs; ++run)
    for (Layer& layer : layers)
      for (Contender& c : layer.contenders) {
        // Until the threads of the one before have gone to sleep, and its own have woken up.
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        c.run();
        const double start = now();
        c.run();
        if (run >= 0) c.seconds = std::min(c.seconds, now() - start);
      }

  const double peak = peak_gflops();
  double ours = 0, theirs = 0, work = 0, worst = 0;
  for (const Layer& layer : layers) {
    print(layer, peak);
    const auto count = static_cast<double>(layer.form.count);
    ours += count * layer.ours();
    work += count * layer.form.shape.flops();
    if (!layer.peer()) continue;
    theirs += count * layer.peer()->seconds;
    worst = std::max(worst, layer.ours() / layer.peer()->seconds);
  }
  Json result{{"what", "conv"},
              {"kind", o.kind},
              {"model", o.preset},
              {"batch", o.batch},
              {"image_size", o.image_size},
              {"isa", name_of(kernels::cpu::isa())},
              {"threads", num_threads()},
              {"peak_f32_gflops", peak},
              {"limit_ms", work / peak * 1e-6},
              {"ours_ms", ours * 1e3}};
  if (theirs > 0) {
    result["onednn"] = onednn_version();
    result["onednn_ms"] = theirs * 1e3;
    result["ratio"] = ours / theirs;
    result["worst_layer_ratio"] = worst;
  }
  return result;
}

}  // namespace sextant::bench
