// SPDX-License-Identifier: Apache-2.0
#include "quant/ptq/layer_samples.h"

#include <algorithm>

#include "core/rng.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/ranges.h"

namespace sextant::quant {
namespace {

using deploy::Graph;
using deploy::Node;
using deploy::ResidualPlace;
using deploy::TensorInfo;
using deploy::TensorView;

int new_tensor(Graph& g, const TensorInfo& like, const std::string& name) {
  TensorInfo info = like;
  info.name = name;
  info.amax = 0.0f;
  g.tensors.push_back(info);
  return static_cast<int>(g.tensors.size()) - 1;
}

// Appends `node` to `out` as a linear convolution with a result tensor of its own, followed by
// nodes for the residual (unless dropped) and the activation.
void append_split(Graph& g, std::vector<Node>& out, Node node, bool keep_residual) {
  const deploy::ConvAttributes a = deploy::conv_attributes(node);
  const auto place = keep_residual ? a.residual_place() : ResidualPlace::kNone;
  const int result = node.output;
  const std::string name = node.name;
  const int other = a.residual ? node.inputs[1] : -1;
  TensorInfo& info = g.tensors[static_cast<size_t>(result)];
  info.name = name + " (all)";
  const TensorInfo like = info;  // a copy: adding tensors reallocates them
  const Tensor gain = node.gain;
  node.gain = Tensor();
  *deploy::activation_of(node.attributes) = Activation::kIdentity;
  if (a.residual) node.as<deploy::ConvAttributes>().residual = false;
  node.inputs.resize(1);
  int now = node.output = new_tensor(g, like, name);
  out.push_back(std::move(node));
  const auto then = [&](const deploy::Attributes& attributes, bool last) {
    Node n;
    n.attributes = attributes;
    n.name = last ? like.name : fmt::format("{} ({})", name, sextant::name_of(n.kind()));
    n.inputs = {now};
    if (n.is<deploy::AddAttributes>()) n.inputs.push_back(other);
    if (n.is<deploy::ConvAttributes>()) {
      n.weight = gain.clone().reshape(Shape{gain.numel(), 1, 1, 1});
      n.precision = deploy::Precision::kFloat32;
    }
    n.output = now = last ? result : new_tensor(g, like, n.name);
    out.push_back(std::move(n));
  };
  const deploy::AddAttributes sum{a.residual_scale};
  if (place == ResidualPlace::kBeforeActivation) then(sum, false);
  const bool last = place != ResidualPlace::kAfterActivation;
  if (gain.defined()) {
    then(deploy::ActivationAttributes{a.activation}, false);
    then(deploy::ConvAttributes{.groups = gain.numel()}, last);
  } else {
    then(deploy::ActivationAttributes{a.activation}, last);
  }
  if (place == ResidualPlace::kAfterActivation) then(sum, true);
}

// The pixels sampled from image `i` of `count`, one per row.
std::vector<int64_t> pixels_of(uint64_t seed, int node, int64_t i, int64_t count, int64_t rows,
                               int64_t pixels) {
  Rng rng(seed, static_cast<uint64_t>(node) << 32 | static_cast<uint64_t>(i));
  std::vector<int64_t> chosen;
  for (int64_t r = i; r < rows; r += count) chosen.push_back(rng.below(pixels));
  return chosen;
}

// Gathers a layer's results over the images.
class ResultCollector {
 public:
  ResultCollector(const Node& node, int index, int64_t images, int64_t rows, uint64_t seed)
      : index_(index),
        images_(images),
        rows_(rows),
        seed_(seed),
        deconv_(node.is<deploy::DeconvAttributes>()) {
    const int64_t o = node.weight.dim(0);
    sample_.mean.assign(static_cast<size_t>(o), 0.0);
    if (rows > 0) sample_.outputs = Tensor({rows, deconv_ ? 4 * o : o});
  }

  void add(int64_t image, const TensorView& view) {
    const Tensor values = view.values();
    const float* x = values.f32();
    const int64_t o = view.shape[3];
    const int64_t w = view.shape[2];
    const int64_t pixels = view.shape[1] * w;
    double* mean = sample_.mean.data();
    for (int64_t p = 0; p < pixels; ++p)
#pragma omp simd
      for (int64_t c = 0; c < o; ++c) mean[c] += x[p * o + c];
    pixels_ += pixels;
    if (rows_ == 0) return;
    const auto chosen =
        pixels_of(seed_, index_, image, images_, rows_, deconv_ ? pixels / 4 : pixels);
    for (size_t j = 0; j < chosen.size(); ++j) {
      float* row = sample_.outputs.f32() +
                   (image + static_cast<int64_t>(j) * images_) * sample_.outputs.dim(1);
      if (!deconv_) {
        std::copy_n(x + chosen[j] * o, o, row);
        continue;
      }
      const int64_t y0 = chosen[j] / (w / 2) * 2;
      const int64_t x0 = chosen[j] % (w / 2) * 2;
      for (int64_t tap = 0; tap < 4; ++tap)
        std::copy_n(x + ((y0 + tap / 2) * w + x0 + tap % 2) * o, o, row + tap * o);
    }
  }

  LayerSample finish() {
    for (double& m : sample_.mean) m /= static_cast<double>(pixels_);
    return std::move(sample_);
  }

 private:
  int index_;
  int64_t images_, rows_;
  uint64_t seed_;
  bool deconv_;
  int64_t pixels_ = 0;
  LayerSample sample_;
};

// Copies the neighbourhoods that the kernel sees into rows of `inputs`.
class InputCollector {
 public:
  InputCollector(const Node& node, int index, int64_t images, int64_t rows, uint64_t seed)
      : window_(deploy::conv_attributes(node)),
        index_(index),
        images_(images),
        rows_(rows),
        seed_(seed) {
    const Shape& w = node.weight.shape();
    deconv_ = node.is<deploy::DeconvAttributes>();
    kh_ = deconv_ ? 1 : w[1];
    kw_ = deconv_ ? 1 : w[2];
    per_group_ = w[3];
    for (int64_t g = 0; g < window_.groups; ++g)
      inputs_.push_back(Tensor::zeros({rows, kh_ * kw_ * per_group_}));
  }

  void add(int64_t image, const TensorView& view) {
    const Tensor values = view.values();
    const int64_t h = view.shape[1], w = view.shape[2], channels = view.shape[3];
    const int64_t stride = window_.stride, padding = window_.padding;
    const int64_t ow = deconv_ ? w : (w + 2 * padding - kw_) / stride + 1;
    const int64_t oh = deconv_ ? h : (h + 2 * padding - kh_) / stride + 1;
    const auto chosen = pixels_of(seed_, index_, image, images_, rows_, oh * ow);
    for (size_t j = 0; j < chosen.size(); ++j) {
      const int64_t row = image + static_cast<int64_t>(j) * images_;
      for (int64_t a = 0; a < kh_; ++a)
        for (int64_t b = 0; b < kw_; ++b) {
          const int64_t y = deconv_ ? chosen[j] / ow : chosen[j] / ow * stride + a - padding;
          const int64_t x = deconv_ ? chosen[j] % ow : chosen[j] % ow * stride + b - padding;
          if (y < 0 || y >= h || x < 0 || x >= w) continue;
          const float* from = values.f32() + (y * w + x) * channels;
          for (size_t g = 0; g < inputs_.size(); ++g)
            std::copy_n(from + static_cast<int64_t>(g) * per_group_, per_group_,
                        inputs_[g].f32() + (row * kh_ * kw_ + a * kw_ + b) * per_group_);
        }
    }
  }

  std::vector<Tensor> finish() { return std::move(inputs_); }

 private:
  deploy::ConvAttributes window_;
  int index_;
  int64_t images_, rows_;
  uint64_t seed_;
  bool deconv_ = false;
  int64_t kh_ = 1, kw_ = 1, per_group_ = 1;
  std::vector<Tensor> inputs_;
};

deploy::EngineConfig config_for(const Images& images) {
  check(!images.empty() && images[0].shape().rank() == 4, "ptq: no images to sample the layers on");
  const Shape shape{1, images[0].dim(1), images[0].dim(2), 3};
  for (const Tensor& image : images)
    check(image.shape() == shape && image.dtype() == DType::kU8,
          "ptq: an image is {} {}, expected u8 {}", name_of(image.dtype()), image.shape().str(),
          shape.str());
  return {.batch = 1, .height = images[0].dim(1), .width = images[0].dim(2)};
}

// Scratch memory of a program, and the base addresses of its storages.
struct Scratch {
  explicit Scratch(const deploy::Program& program)
      : arena(Shape{std::max<int64_t>(program.stats.arena_bytes, 1)}, DType::kU8),
        bases(deploy::bases_in(program, static_cast<std::byte*>(arena.raw()))) {}
  Tensor arena;
  deploy::Bases bases;
};

}  // namespace

std::vector<LayerSample> sample_exact(const Graph& graph, const Images& images,
                                      const std::vector<int64_t>& rows, uint64_t seed) {
  Graph split = graph;
  split.nodes.clear();
  for (const Node& node : graph.nodes) {
    if (node.has_weight())
      append_split(split, split.nodes, node, true);
    else
      split.nodes.push_back(node);
  }
  const auto count = static_cast<int64_t>(images.size());
  std::vector<int> node_of(split.tensors.size(), -1);
  std::vector<ResultCollector> collectors;
  std::vector<int> collector_of(split.tensors.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!graph.nodes[n].has_weight()) continue;
    const int t = split.find_tensor(graph.nodes[n].name);
    collector_of[static_cast<size_t>(t)] = static_cast<int>(collectors.size());
    node_of[static_cast<size_t>(t)] = static_cast<int>(n);
    collectors.emplace_back(graph.nodes[n], static_cast<int>(n), count, rows[n], seed);
  }
  deploy::Engine engine(split, config_for(images));
  for (int64_t i = 0; i < count; ++i)
    engine.run(images[static_cast<size_t>(i)], [&](const TensorView& v) {
      const int c = collector_of[static_cast<size_t>(v.id)];
      if (c >= 0) collectors[static_cast<size_t>(c)].add(i, v);
    });
  std::vector<LayerSample> samples(graph.nodes.size());
  for (size_t t = 0; t < node_of.size(); ++t)
    if (node_of[t] >= 0)
      samples[static_cast<size_t>(node_of[t])] =
          collectors[static_cast<size_t>(collector_of[t])].finish();
  return samples;
}

QuantizedPass::QuantizedPass(const Graph& graph, const Images& images, uint64_t seed)
    : images_(images), seed_(seed), config_(config_for(images)) {
  config_.precision = deploy::Precision::kInt8;
  plan_ = program_of(graph, -1);
  last_reader_.assign(plan_.storage_bytes.size(), -1);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (&graph.nodes[n] == graph.decode()) continue;
    for (const int t : graph.nodes[n].inputs)
      last_reader_[static_cast<size_t>(plan_.tensors[static_cast<size_t>(t)].storage)] =
          static_cast<int>(n);
  }
  memory_.assign(images.size(), std::vector<Tensor>(plan_.storage_bytes.size()));
}

deploy::Program QuantizedPass::program_of(const Graph& graph, int node) const {
  deploy::BuildOptions options{.keep_activations = true, .nodes = {}};
  options.nodes.assign(graph.nodes.size(), false);
  if (node >= 0) options.nodes[static_cast<size_t>(node)] = true;
  return deploy::build_program(graph, config_, options);
}

std::byte* QuantizedPass::storage_of(size_t image, int tensor) const {
  const int storage = plan_.tensors[static_cast<size_t>(tensor)].storage;
  const Tensor& t =
      storage == deploy::kImages ? images_[image] : memory_[image][static_cast<size_t>(storage)];
  return static_cast<std::byte*>(t.raw());
}

// Binds a program's storages, which it numbers in its own way, to the memory of the tensors.
void QuantizedPass::bind(deploy::Bases& bases, const deploy::Program& program,
                         const std::vector<int>& tensors, size_t image) const {
  for (const int tensor : tensors) {
    const auto t = static_cast<size_t>(tensor);
    const deploy::Place& there = program.tensors[t];
    const deploy::Place& here = plan_.tensors[t];
    check(there.byte_offset == here.byte_offset && there.pitch == here.pitch &&
              there.dtype == here.dtype,
          "ptq: tensor {} is stored differently in the changed graph", tensor);
    bases[static_cast<size_t>(there.storage)] = storage_of(image, tensor);
  }
}

QuantizedSample QuantizedPass::sample(const Graph& graph, int64_t rows) const {
  const Node& layer = graph.nodes.at(static_cast<size_t>(next_));
  check(deploy::runs_in_int8(graph, layer), "ptq: node '{}' does not run in int8", layer.name);
  // The same graph, but with this node's result in f32 and without its residual.
  Graph split = graph;
  split.nodes.resize(static_cast<size_t>(next_));
  append_split(split, split.nodes, layer, false);
  split.nodes.insert(split.nodes.end(), graph.nodes.begin() + next_ + 1, graph.nodes.end());
  const int result = split.nodes[static_cast<size_t>(next_)].output;
  const deploy::Program program = program_of(split, next_);
  Scratch scratch(program);

  const auto count = static_cast<int64_t>(images_.size());
  ResultCollector results(layer, next_, count, rows, seed_);
  InputCollector inputs(layer, next_, count, rows, seed_);
  for (size_t i = 0; i < images_.size(); ++i) {
    bind(scratch.bases, program, {layer.inputs[0]}, i);
    for (const auto& step : program.steps) step->run(scratch.bases);
    const auto image = static_cast<int64_t>(i);
    if (rows > 0) inputs.add(image, view_of(split, program, scratch.bases, layer.inputs[0]));
    results.add(image, view_of(split, program, scratch.bases, result));
  }
  return {results.finish(), rows > 0 ? inputs.finish() : std::vector<Tensor>{}};
}

void QuantizedPass::advance(const Graph& graph) {
  const Node& node = graph.nodes.at(static_cast<size_t>(next_));
  if (&node != graph.decode()) {
    const deploy::Program program = program_of(graph, next_);
    Scratch scratch(program);
    const auto made = static_cast<size_t>(plan_.tensors[static_cast<size_t>(node.output)].storage);
    std::vector<int> tensors = node.inputs;
    tensors.push_back(node.output);
    for (size_t i = 0; i < images_.size(); ++i) {
      Tensor& memory = memory_[i][made];
      if (!memory.defined() && plan_.storage_bytes[made] > 0)
        memory = Tensor(Shape{plan_.storage_bytes[made]}, DType::kU8);
      bind(scratch.bases, program, tensors, i);
      for (const auto& step : program.steps) step->run(scratch.bases);
    }
  }
  for (size_t s = 0; s < last_reader_.size(); ++s)
    if (last_reader_[s] <= next_)
      for (auto& of_image : memory_) of_image[s] = Tensor();
  ++next_;
}

}  // namespace sextant::quant
