// SPDX-License-Identifier: Apache-2.0
// Turns the nodes of an ONNX model into nodes of a graph, one after the other. Internal to
// deploy/onnx; the public interface is deploy/onnx/import.h. The import of each operator is in the
// files that deploy/onnx/nodes.h lists.
#pragma once

#include <onnx/onnx_pb.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"
#include "deploy/onnx/constant.h"
#include "deploy/onnx/nodes.h"
#include "deploy/onnx/reads.h"

namespace sextant::deploy {

// The meaning of a name in the ONNX graph: a constant, or one of our tensors with operations that
// are still pending. The operator that reads it absorbs or performs these.
struct OnnxValue {
  enum class Pending { kNone, kHardSigmoid, kSoftplus, kTanhOfSoftplus };
  // The integers between QuantizeLinear and DequantizeLinear.
  struct Steps {
    float scale = 0;
    int64_t zero_point = 0;
    bool operator==(const Steps&) const = default;
  };

  std::shared_ptr<OnnxConstant> constant;
  std::shared_ptr<OnnxQuantized> weight;  // a constant behind DequantizeLinear
  std::string constant_name;              // name of the initializer, used to name the node

  int tensor = -1;
  bool flat = false;               // read as [N, C * H * W]
  float factor = 1.0f;             // times this, behind what is pending
  std::array<int64_t, 4> zeros{};  // zero padding: top, left, bottom, right
  Pending pending = Pending::kNone;
  std::optional<Steps> steps;
  // Not empty: the channels in this order, read as [N, channels / columns, columns, H, W].
  std::vector<int64_t> order;
  int64_t columns = 0;

  bool is_constant() const { return constant || weight; }
};

class OnnxImporter {
 public:
  OnnxImporter(int64_t height, int64_t width, std::string image);

  // Whether import_node() knows the node's operator; some only `of_constants`.
  static bool knows(const onnx::NodeProto& node, bool of_constants = true);
  // Throws Error that does not name the node; the caller does.
  void import_node(const onnx::NodeProto& node);

  void constant(const onnx::TensorProto& tensor);
  // Our tensor of that name, with all pending operations performed. Throws if it does not exist.
  int tensor_of(const std::string& name);
  // The shape [1,H,W,C] of the image or map of that name; null if it does not exist or has pending
  // operations.
  const Shape* map_shape(const std::string& name) const;
  // Appends `node` and returns its tensor. Its name is made unique; an empty one is chosen by its
  // kind.
  int add(Node node, const std::string& name);

  Graph graph;                // imported so far; the caller sets `output`
  std::vector<Shape> shapes;  // the shapes of its tensors, for one image
  int64_t opset = 13;
  int64_t batch = 1;            // the batch size of the model
  bool symbolic_batch = false;  // it takes any

  // ---- for operators
  const onnx::NodeProto& current() const { return *now_; }
  // What the current node's import has read; import_node() refuses a node with more than that.
  void note_attribute(const std::string& name) { reads_.attributes.insert(name); }
  void note_input(int i) { reads_.inputs.insert(i); }
  // The batch dimension where shapes are computed. The evaluator of constants knows numbers alone, so
  // that a symbolic one is a number too: a prime, which is no product of other dimensions.
  static constexpr int64_t kSymbolicBatch = 7919;
  int64_t batch_dimension() const { return symbolic_batch ? kSymbolicBatch : batch; }
  // Whether the tensor cannot hold a negative number.
  bool never_negative(int tensor) const { return never_negative_[static_cast<size_t>(tensor)]; }
  // Null if no earlier node makes it.
  OnnxValue* find(const std::string& name);
  void define(const std::string& name, OnnxValue value);
  // Storage for a computed constant.
  onnx::TensorProto& own() { return owned_.emplace_back(); }
  // The tensor of a value, with pending operations performed.
  int plain(const OnnxValue& v);
  int activate(int tensor, Activation activation);
  // min(max(x, low), high); infinite bounds are absent ones.
  int clip(int tensor, float low, float high);
  // factor * x + shift per channel: a depthwise 1x1 convolution, which fuse() folds where it can.
  int affine(int tensor, const std::vector<float>& factor, const std::vector<float>& shift);

 private:
  bool fold(const onnx::NodeProto& node);
  int cut(int tensor, float high);

  std::map<std::string, OnnxValue> values_;
  std::map<int, int> hard_sigmoids_;  // of tensors that were read as such
  std::vector<bool> never_negative_;
  OnnxReads reads_;                            // of the current node
  int64_t values_to_fold_ = int64_t{1} << 20;  // how many more constants may be computed
  std::deque<onnx::TensorProto> owned_;
  std::set<std::string> names_;
  std::map<NodeKind, int> count_;
  const onnx::NodeProto* now_ = nullptr;
};

// The window of a convolution or pooling layer.
struct OnnxWindow {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 2> dilation{1, 1};
  std::array<int64_t, 4> pads{};  // top, left, bottom, right

  // Throws Error unless both sides have it.
  int64_t one_stride() const {
    check(stride[0] == stride[1], "strides {} and {} differ", stride[0], stride[1]);
    return stride[0];
  }
};

// Access to the importer's current node, and ways to add nodes to the graph. Each family of
// operators derives from it and has a member function for each operator (imports()).
class OnnxOperator {
 public:
  explicit OnnxOperator(OnnxImporter& importer) : importer_(importer) {}

 protected:
  // ---- attributes and inputs
  const onnx::NodeProto& current() const { return importer_.current(); }
  std::string name_of_node() const;
  const onnx::AttributeProto* attribute(const char* name) const;
  int64_t integer(const char* name, int64_t standard, int64_t low, int64_t high) const;
  float number(const char* name, float standard) const;
  std::string text(const char* name, const std::string& standard) const;
  std::vector<int64_t> integers(const char* name, std::vector<int64_t> standard, int64_t low,
                                int64_t high) const;
  // Attributes and an input that do not matter for what is supported.
  void ignore(std::initializer_list<const char*> names) const {
    for (const char* name : names) importer_.note_attribute(name);
  }
  void ignore_input(int i) const { importer_.note_input(i); }
  bool has_input(int i) const;
  const OnnxValue& input(int i) const;
  const OnnxConstant& constant_input(int i) const;
  // Integers from an attribute, or (in later opsets) from input i.
  std::vector<int64_t> integers_or_input(const char* name, int i) const;
  // strides, dilations, pads and auto_pad of a layer that slides over x, which may be padded
  // already (top, left, bottom, right).
  OnnxWindow window(const Shape& x, int64_t kernel_h, int64_t kernel_w,
                    const std::array<int64_t, 4>& padded = {}) const;
  // The only value of input i, which may be infinite; `standard` if it is absent.
  float bound(int i, float standard) const;

  // ---- results
  // The tensor of input i, or of a value, with pending operations performed.
  int plain(int i) { return plain(OnnxValue(input(i))); }
  int plain(const OnnxValue& v) { return importer_.plain(v); }
  // The tensor of input i. Throws Error unless it is an image.
  int image(int i);
  const Shape& shape(int tensor) const { return importer_.shapes[static_cast<size_t>(tensor)]; }
  int affine(int tensor, const std::vector<float>& factor, const std::vector<float>& shift) {
    return importer_.affine(tensor, factor, shift);
  }
  int activate(int tensor, Activation activation) { return importer_.activate(tensor, activation); }
  // Named like the ONNX node if `name` is empty.
  int add(Node made, const std::string& name = "") {
    return importer_.add(std::move(made), name.empty() ? name_of_node() : name);
  }
  // Sets the node's first output, or output i.
  void result(OnnxValue value) { result(0, std::move(value)); }
  void result(int tensor, bool flat = false);
  void result(int i, OnnxValue value) { importer_.define(current().output(i), std::move(value)); }
  OnnxValue& output() { return *importer_.find(current().output(0)); }

  OnnxImporter& importer_;
};

// The table row of an operator that a member function of a family imports.
template <class Family>
void import_by(OnnxImporter& importer, void (Family::*method)()) {
  (Family(importer).*method)();
}
template <auto Method>
constexpr OnnxImport imports(std::string_view type) {
  return {type, [](OnnxImporter& importer) { import_by(importer, Method); }};
}

}  // namespace sextant::deploy
