// SPDX-License-Identifier: Apache-2.0
// The deploy graph: a trained model after tracing and fusing.
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
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "deploy/graph/node_kinds.h"
#include "deploy/graph/proof.h"

namespace sextant::deploy {

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

struct Node {
  std::string name;  // the module path of its weight ("backbone.stem.rbr_reparam"), or "<kind>_<n>"
  Attributes attributes;    // holds the struct of its kind
  std::vector<int> inputs;  // tensor ids
  int output = -1;          // tensor id
  Tensor weight;            // f32; conv [O,kh,kw,I/groups], deconv [O,2,2,I]
  Tensor bias;              // f32 [O], or empty
  // f32 [O], positive, or empty: what the activation's result is times, before a residual that is
  // added behind it. Equalization sets it where an activation does not commute with a factor.
  Tensor gain;
  // Per output channel, set by quantization; empty: not quantized. The integer weight is
  // round(weight / weight_scale).
  std::vector<float> weight_scale;
  // conv, deconv: its precision when the engine runs in int8. kFloat32 keeps a sensitive node in
  // float (its operands are then converted around it).
  Precision precision = Precision::kInt8;
  std::vector<Tensor> norm;  // rep_bn_act: gamma, beta, running_mean, running_var of each branch

  NodeKind kind() const { return kind_of(attributes); }
  // The attributes as kind T's. Throws Error naming the node if it is of another kind.
  template <class A>
  const A& as() const {
    const A* a = std::get_if<A>(&attributes);
    if (!a) wrong_kind();
    return *a;
  }
  template <class A>
  A& as() {
    return const_cast<A&>(std::as_const(*this).template as<A>());
  }
  template <class A>
  bool is() const {
    return std::holds_alternative<A>(attributes);
  }

  // A conv or deconv: what quantization calls a layer.
  bool has_weight() const;
  // Whether its second input is added to a convolution.
  bool has_residual() const;
  // The activation applied last; the identity for kinds without one.
  Activation activation() const;

 private:
  [[noreturn]] void wrong_kind() const;
};

struct TensorInfo {
  std::string name;  // the name of the node that makes it
  Shape shape;       // at the size of the trace
  int group = -1;    // tensors of one group share their range; see unify_ranges()
  bool is_unsigned = false;
  float amax = 0.0f;  // 0: no range, the tensor stays f32

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
  int64_t image_size = 0;   // side of its images, or their height; 0: unknown
  int64_t image_width = 0;  // where it differs from the height; 0: images are square
  int64_t gray_border = 0;  // grey pixels on each side of its images (data/image/letterbox.h)
  std::string source;       // the file it was read from, for messages; may be empty
  Proof proof;              // what that file says of itself

  // The source for messages, or "the model" if unknown.
  std::string label() const;
  // The width of images of height `size`: the model's own at its own height, else `size`.
  int64_t width_for(int64_t size) const;
  // The last node, which turns head outputs into predictions; null for other networks.
  const Node* decode() const;
  // -1 / nullptr when not found.
  int find_tensor(const std::string& name) const;
  const Node* find_node(const std::string& name) const;
  // Index of the node that makes each tensor.
  std::vector<int> producers() const;
  // Indices of the nodes that read each tensor, in order; a node that reads it twice is listed
  // twice.
  std::vector<std::vector<int>> consumers() const;
  // Whether it has been calibrated: the input has a range. Some or all layers may still be in
  // float.
  bool quantized() const;
};

// Validates a graph from an untrusted source: ids out of range, tensors made twice or read before
// they are made, empty or duplicate names, mismatched attributes and weights, channel counts,
// numbers that are not finite or out of bounds. Throws Error naming the source, and node or tensor.
void validate(const Graph& graph);

// The shape of every tensor for `batch` images of height x width. Throws Error naming the node when
// the size does not fit (with a size that is not a multiple of the largest stride, concat inputs
// differ).
std::vector<Shape> infer_shapes(const Graph& graph, int64_t batch, int64_t height, int64_t width);

// The shape of the node's output, given those of all tensors before it. Throws as infer_shapes().
Shape output_shape(const Graph& graph, const Node& node, const std::vector<Shape>& shapes);

// Throws Error naming graph and node if a node remains that fuse() would have folded.
void check_fused(const Graph& graph);
bool is_fused(const Graph& graph);

// The leading path components that both names share: "a.b" of "a.b.c" and "a.b.d.e".
std::string common_path(const std::string& a, const std::string& b);

// Image sizes have to be multiples of it: of the decode node's largest stride, or of what the node
// says instead. 1 without one.
int64_t size_multiple(const Graph& graph);

}  // namespace sextant::deploy
