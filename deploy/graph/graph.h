// The deploy graph: what a trained model is after tracing and fusing.
//
// Plain data. Nodes are in an order in which they can run; each has one output tensor. Activations
// are [N,H,W,C]; convolution weights are f32 [O,kh,kw,I/groups]. The graph has no size of its own:
// `Tensor::shape` is that of the trace, infer_shapes() gives the shapes for any batch and image
// size.
//
// Quantization is part of the graph. A tensor with a range (amax > 0) is held as 8-bit integers in
// an int8 engine: unsigned, 0..255 with scale amax / 255, where it cannot be negative, else signed,
// -127..127 with scale amax / 127 (a value below -amax may saturate at -128 instead of -127, as the
// hardware's own saturation does). A tensor without a range stays f32. Weights are signed,
// -127..127, one scale per output channel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "kernels/math/activation.h"

namespace sextant::deploy {

enum class NodeKind {
  kInput,          // the image: f32 in 0..1, fed as u8 pixels
  kConv,           // weight, bias, activation, residual sum
  kDeconv,         // 2x2 stride 2 transposed convolution: weight [O,2,2,I], bias, activation
  kMaxPool,        // kernel, stride, padding
  kUpsample,       // nearest, by `scale`
  kConcat,         // channels
  kAdd,            // two inputs of equal shape, the second times residual_scale
  kActivation,     // on its own
  kSlice,          // channels [begin, end)
  kGlobalAvgPool,  // mean over the pixels: [N,1,1,C]; computed in float
  kSoftmax,        // over the channels; computed in float
  kBatchNorm,      // rep_bn_act as traced; gone after fuse()
  kDecode          // head outputs -> predictions; always the last node
};

constexpr auto enum_names(NodeKind) {
  return make_enum_names<NodeKind>("node kind", {{NodeKind::kInput, "input"},
                                                 {NodeKind::kConv, "conv"},
                                                 {NodeKind::kDeconv, "deconv"},
                                                 {NodeKind::kMaxPool, "max_pool"},
                                                 {NodeKind::kUpsample, "upsample"},
                                                 {NodeKind::kConcat, "concat"},
                                                 {NodeKind::kAdd, "add"},
                                                 {NodeKind::kActivation, "activation"},
                                                 {NodeKind::kSlice, "slice"},
                                                 {NodeKind::kGlobalAvgPool, "global_avg_pool"},
                                                 {NodeKind::kSoftmax, "softmax"},
                                                 {NodeKind::kBatchNorm, "rep_bn_act"},
                                                 {NodeKind::kDecode, "decode"}});
}

// What an engine computes in. kInteger is int8 without any float between the pixels and the decoded
// result (CPU only); kFloat16 holds activations and weights as f16 (CUDA only). A node is kFloat32
// or kInt8.
enum class Precision { kFloat32, kFloat16, kInt8, kInteger };
constexpr auto enum_names(Precision) {
  return make_enum_names<Precision>("precision", {{Precision::kFloat32, "fp32"},
                                                  {Precision::kFloat16, "fp16"},
                                                  {Precision::kInt8, "int8"},
                                                  {Precision::kInteger, "integer"}});
}

// Only the fields of a node's kind mean something; the others keep their defaults.
struct Attributes {
  int64_t stride = 1;                             // conv, max_pool
  int64_t padding = 0;                            // conv, max_pool
  int64_t groups = 1;                             // conv
  int64_t kernel = 1;                             // max_pool
  int64_t scale = 2;                              // upsample
  int64_t begin = 0;                              // slice
  int64_t end = 0;                                // slice
  Activation activation = Activation::kIdentity;  // conv, deconv, activation, rep_bn_act
  bool residual = false;                          // conv: its second input is added ...
  bool residual_before_activation = false;        // ... act(conv + r), else act(conv) + r
  float residual_scale = 1.0f;                    // conv with residual, add: factor of r
  float eps = 1e-3f;                              // rep_bn_act
  std::vector<int64_t> strides;                   // decode: pixels per cell, one per level
  int64_t num_classes = 0;                        // decode
  int64_t reg_max = 0;                            // decode; 0: four plain distances
  float grid_cell_offset = 0.5f;                  // decode
  bool objectness = false;                        // decode: reads an objectness map a level

  // decode: tensors a level, in this order: class logits, distances, objectness logits if any.
  size_t maps_per_level() const { return objectness ? 3 : 2; }
};

struct Node {
  std::string name;  // the module path of its weight ("backbone.stem.rbr_reparam"), or "<kind>_<n>"
  NodeKind kind = NodeKind::kInput;
  std::vector<int> inputs;  // tensor ids
  int output = -1;          // tensor id
  Attributes attributes;
  Tensor weight;  // f32; conv [O,kh,kw,I/groups], deconv [O,2,2,I]
  Tensor bias;    // f32 [O], or empty
  // Per output channel, set by quantization; empty: not quantized. The integer weight is
  // round(weight / weight_scale).
  std::vector<float> weight_scale;
  // conv, deconv: what it runs in when the engine runs in int8. kFloat32 keeps a sensitive node in
  // float (its operands are then converted around it).
  Precision precision = Precision::kInt8;
  std::vector<Tensor> norm;  // rep_bn_act: gamma, beta, running_mean, running_var of each branch

  bool has_weight() const { return kind == NodeKind::kConv || kind == NodeKind::kDeconv; }
};

struct TensorInfo {
  std::string name;  // the name of the node that makes it
  Shape shape;       // at the size of the trace
  int group = -1;    // tensors of one group share their range; see unify_ranges()
  bool is_unsigned = false;
  float amax = 0.0f;  // 0: no range, stays f32

  bool has_range() const { return amax > 0.0f; }
  // The value of one step: amax / 255 (unsigned) or amax / 127. 1 without a range.
  float scale() const;
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<TensorInfo> tensors;
  int input = -1;   // tensor id
  int output = -1;  // tensor id

  std::vector<std::string> class_names;
  int64_t image_size = 0;   // the model was trained at; 0 when not known
  int64_t gray_border = 0;  // grey pixels on each side of its images (data/image/letterbox.h)
  std::string source;       // file it came from, for messages; may be empty

  // -1 / nullptr when absent.
  int find_tensor(const std::string& name) const;
  const Node* find_node(const std::string& name) const;
  // Index of the node that makes each tensor.
  std::vector<int> producers() const;
  // Indices of the nodes that read each tensor, in order; a node that reads it twice is there
  // twice.
  std::vector<std::vector<int>> consumers() const;
  // Whether it has been calibrated: the input has a range. Layers may still be in float, all of
  // them even.
  bool quantized() const;
};

// Checks everything a graph from outside could have wrong: ids out of range, a tensor made twice or
// read before it is made, names empty or twice, attributes and weights that do not fit each other,
// channel counts, non-finite or absurd numbers. Throws Error naming the source, and node or tensor.
void validate(const Graph& graph);

// The shape of every tensor for `batch` images of height x width. Throws Error naming the node when
// the size does not fit (a size that is no multiple of the largest stride makes concat inputs
// differ).
std::vector<Shape> infer_shapes(const Graph& graph, int64_t batch, int64_t height, int64_t width);

// The shape of the node's output, given those of all tensors before it. Throws as infer_shapes().
Shape output_shape(const Graph& graph, const Node& node, std::vector<Shape>& shapes);

// The leading path components that both names have: "a.b" of "a.b.c" and "a.b.d.e".
std::string common_path(const std::string& a, const std::string& b);

// The largest stride of the decode node: image sizes have to be multiples of it. 1 without one.
int64_t size_multiple(const Graph& graph);

}  // namespace sextant::deploy
