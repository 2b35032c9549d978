// SPDX-License-Identifier: Apache-2.0
// The kinds of nodes, and the attributes that each has.
//
// A node's kind is the type of the attributes it holds. Everything else about a kind (keys and
// bounds of its attributes, shapes, ranges) is a row in deploy/graph/node_rules.cpp.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "core/enum_names.h"
#include "kernels/math/activation.h"

namespace sextant::deploy {

enum class NodeKind {
  kInput,          // the image: f32 in 0..1, fed as u8 pixels
  kConv,           // weight, bias, activation, residual sum
  kDeconv,         // 2x2 stride 2 transposed convolution: weight [O,2,2,I], bias, activation
  kMaxPool,        // kernel, stride, padding
  kAveragePool,    // windows over the image; what lies outside does not count
  kUpsample,       // nearest, by a whole factor
  kDepthToSpace,   // [N,H,W,s,t,C] to [N,sH,tW,C], cropped: ends other transposed convolutions
  kConcat,         // channels
  kAdd,            // two inputs of equal shape
  kMultiply,       // two inputs of equal shape, or the second of one pixel per image
  kActivation,     // on its own
  kSlice,          // a range of channels
  kGather,         // channels by their numbers: any order, any of them several times
  kGlobalAvgPool,  // mean over the pixels: [N,1,1,C]
  kSoftmax,        // over the channels; computed in float
  kBatchNorm,      // rep_bn_act as traced; gone after fuse()
  kDecode          // head outputs -> predictions; always the last node
};

constexpr auto enum_names(NodeKind) {
  return make_enum_names<NodeKind>("node kind", {{NodeKind::kInput, "input"},
                                                 {NodeKind::kConv, "conv"},
                                                 {NodeKind::kDeconv, "deconv"},
                                                 {NodeKind::kMaxPool, "max_pool"},
                                                 {NodeKind::kAveragePool, "avg_pool"},
                                                 {NodeKind::kUpsample, "upsample"},
                                                 {NodeKind::kDepthToSpace, "depth_to_space"},
                                                 {NodeKind::kConcat, "concat"},
                                                 {NodeKind::kAdd, "add"},
                                                 {NodeKind::kMultiply, "multiply"},
                                                 {NodeKind::kActivation, "activation"},
                                                 {NodeKind::kSlice, "slice"},
                                                 {NodeKind::kGather, "gather"},
                                                 {NodeKind::kGlobalAvgPool, "global_avg_pool"},
                                                 {NodeKind::kSoftmax, "softmax"},
                                                 {NodeKind::kBatchNorm, "rep_bn_act"},
                                                 {NodeKind::kDecode, "decode"}});
}

// Where a convolution adds its second input r, multiplied by a factor.
enum class ResidualPlace {
  kNone,              // no second input
  kBeforeActivation,  // act(conv + r)
  kAfterActivation    // act(conv) + r
};
constexpr auto enum_names(ResidualPlace) {
  return make_enum_names<ResidualPlace>("residual",
                                        {{ResidualPlace::kNone, "none"},
                                         {ResidualPlace::kBeforeActivation, "before_activation"},
                                         {ResidualPlace::kAfterActivation, "after_activation"}});
}

struct InputAttributes {
  bool operator==(const InputAttributes&) const = default;
};

struct ConvAttributes {
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t groups = 1;
  Activation activation = Activation::kIdentity;
  bool residual = false;  // the second input is added ...
  bool residual_before_activation = false;
  float residual_scale = 1.0f;  // ... times this

  ResidualPlace residual_place() const {
    if (!residual) return ResidualPlace::kNone;
    return residual_before_activation ? ResidualPlace::kBeforeActivation
                                      : ResidualPlace::kAfterActivation;
  }
  bool operator==(const ConvAttributes&) const = default;
};

struct DeconvAttributes {
  Activation activation = Activation::kIdentity;
  bool operator==(const DeconvAttributes&) const = default;
};

struct MaxPoolAttributes {
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;
  // Whether a last window that reaches beyond the padded image counts, if it begins inside it.
  bool ceil_mode = false;
  bool operator==(const MaxPoolAttributes&) const = default;
};

struct AveragePoolAttributes {
  int64_t kernel_height = 1;
  int64_t kernel_width = 1;
  int64_t stride = 1;
  int64_t top = 0, left = 0, bottom = 0, right = 0;  // how far windows reach out of the image
  bool ceil_mode = false;                            // as of MaxPoolAttributes
  bool operator==(const AveragePoolAttributes&) const = default;
};

struct UpsampleAttributes {
  int64_t scale = 2;
  bool operator==(const UpsampleAttributes&) const = default;
};

struct DepthToSpaceAttributes {
  int64_t scale = 2;
  int64_t crop_bottom = 0, crop_right = 0;  // rows and columns left out at the end
  int64_t scale_width = 0;                  // 0: scale
  int64_t columns() const { return scale_width > 0 ? scale_width : scale; }
  int64_t taps() const { return scale * columns(); }
  bool operator==(const DepthToSpaceAttributes&) const = default;
};

struct ConcatAttributes {
  bool operator==(const ConcatAttributes&) const = default;
};

struct AddAttributes {
  float residual_scale = 1.0f;  // factor of the second input
  bool operator==(const AddAttributes&) const = default;
};

struct MultiplyAttributes {
  bool operator==(const MultiplyAttributes&) const = default;
};

struct ActivationAttributes {
  Activation activation = Activation::kIdentity;
  bool operator==(const ActivationAttributes&) const = default;
};

// Channels [begin, end).
struct SliceAttributes {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const SliceAttributes&) const = default;
};

// Channel c of the output is channel channels[c] of the input.
struct GatherAttributes {
  std::vector<int64_t> channels;
  bool operator==(const GatherAttributes&) const = default;
};

struct GlobalAvgPoolAttributes {
  bool operator==(const GlobalAvgPoolAttributes&) const = default;
};

struct SoftmaxAttributes {
  bool operator==(const SoftmaxAttributes&) const = default;
};

struct BatchNormAttributes {
  float eps = 1e-3f;
  Activation activation = Activation::kIdentity;
  bool operator==(const BatchNormAttributes&) const = default;
};

struct DecodeAttributes {
  std::vector<int64_t> strides;  // pixels per cell, one per level
  int64_t num_classes = 0;
  int64_t reg_max = 0;  // 0: four plain distances
  float grid_cell_offset = 0.5f;
  bool objectness = false;  // reads an objectness map per level
  // Image sides are multiples of it; 0: of the largest stride. The maps of larger strides then round
  // their size up.
  int64_t size_multiple = 0;

  // Inputs per level, in this order: class logits, distances, objectness logits if any.
  size_t maps_per_level() const { return objectness ? 3 : 2; }
  bool operator==(const DecodeAttributes&) const = default;
};

// In the order of NodeKind.
using Attributes =
    std::variant<InputAttributes, ConvAttributes, DeconvAttributes, MaxPoolAttributes,
                 AveragePoolAttributes, UpsampleAttributes, DepthToSpaceAttributes,
                 ConcatAttributes, AddAttributes, MultiplyAttributes, ActivationAttributes,
                 SliceAttributes, GatherAttributes, GlobalAvgPoolAttributes, SoftmaxAttributes,
                 BatchNormAttributes, DecodeAttributes>;

inline NodeKind kind_of(const Attributes& attributes) {
  return static_cast<NodeKind>(attributes.index());
}

// The default attributes of a kind.
Attributes default_attributes(NodeKind kind);

// The activation that a node applies last; null for kinds without one.
const Activation* activation_of(const Attributes& attributes);
Activation* activation_of(Attributes& attributes);

// Throws Error naming the key of an attribute that is out of bounds.
void check_attributes(const Attributes& attributes);

}  // namespace sextant::deploy
