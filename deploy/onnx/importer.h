// Turns the nodes of an ONNX model into nodes of a graph, one after the other. Internal to
// deploy/onnx; deploy/onnx/import.h is the door. What is made of each operator is in the files of
// deploy/onnx/nodes.h.
#pragma once

#include <onnx/onnx_pb.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "deploy/graph/graph.h"
#include "deploy/onnx/constant.h"
#include "deploy/onnx/nodes.h"

namespace sextant::deploy {

// What a name of the ONNX graph stands for: a constant, or a tensor of ours with what still has to
// be done to it, which the operator that reads it takes care of.
struct OnnxValue {
  enum class Pending { kNone, kHardSigmoid, kSoftplus, kTanhOfSoftplus };

  std::shared_ptr<OnnxConstant> constant;
  std::shared_ptr<OnnxQuantized> weight;  // a constant behind DequantizeLinear
  std::string constant_name;              // of the initializer, for a node's name

  int tensor = -1;
  bool flat = false;               // read as [N, C * H * W]
  float factor = 1.0f;             // times this
  std::array<int64_t, 4> zeros{};  // with zeros around it: top, left, bottom, right
  Pending pending = Pending::kNone;

  bool is_constant() const { return constant || weight; }
};

class OnnxImporter {
 public:
  OnnxImporter(int64_t height, int64_t width, std::string image);

  // Whether import_node() knows the node's operator.
  static bool knows(const onnx::NodeProto& node);
  // Throws Error about the node, without naming it.
  void import_node(const onnx::NodeProto& node);

  void constant(const onnx::TensorProto& tensor);
  // Our tensor of that name, done with all that was pending. Throws where there is none.
  int tensor_of(const std::string& name);
  // The shape of the image or map of that name, [1,H,W,C]; null where there is none, or it is not
  // done with what is pending.
  const Shape* map_shape(const std::string& name) const;
  // Puts `node` behind the others; returns its tensor. The name is made unique; "": by its kind.
  int add(Node node, const std::string& name);

  Graph graph;                // as far as it got; `output` is the caller's
  std::vector<Shape> shapes;  // of its tensors, for one image
  int64_t opset = 13;
  int64_t batch = 1;  // that the model was written for

  // ---- for operators
  const onnx::NodeProto& current() const { return *now_; }
  // Null for what no node before the current one makes.
  OnnxValue* find(const std::string& name);
  void define(const std::string& name, OnnxValue value);
  // Memory for a constant that no initializer holds.
  onnx::TensorProto& own() { return owned_.emplace_back(); }
  // The tensor of a value, done with what was pending.
  int plain(const OnnxValue& v);
  // factor * x + shift per channel: a depthwise 1x1 convolution, which fuse() folds where it can.
  int affine(int tensor, const std::vector<float>& factor, const std::vector<float>& shift);

 private:
  std::map<std::string, OnnxValue> values_;
  std::deque<onnx::TensorProto> owned_;
  std::set<std::string> names_;
  std::map<NodeKind, int> count_;
  const onnx::NodeProto* now_ = nullptr;
};

// How a layer slides over an image.
struct OnnxWindow {
  int64_t stride = 1;
  std::array<int64_t, 2> dilation{1, 1};
  std::array<int64_t, 4> pads{};  // top, left, bottom, right
};

// One operator: what the importer's current node says, and what is made of it. Each family of
// operators derives from it, with a member function each (imports()).
class OnnxOperator {
 public:
  explicit OnnxOperator(OnnxImporter& importer) : importer_(importer) {}

 protected:
  // ---- what the node says
  const onnx::NodeProto& current() const { return importer_.current(); }
  std::string name_of_node() const;
  const onnx::AttributeProto* attribute(const char* name) const;
  int64_t integer(const char* name, int64_t standard, int64_t low, int64_t high) const;
  float number(const char* name, float standard) const;
  std::string text(const char* name, const std::string& standard) const;
  std::vector<int64_t> integers(const char* name, std::vector<int64_t> standard, int64_t low,
                                int64_t high) const;
  bool has_input(int i) const;
  const OnnxValue& input(int i) const;
  const OnnxConstant& constant_input(int i) const;
  // Integers from an attribute, or (in later opsets) from input i.
  std::vector<int64_t> integers_or_input(const char* name, int i) const;
  // strides, dilations, pads and auto_pad of a layer that slides over x.
  OnnxWindow window(const Shape& x, int64_t kernel_h, int64_t kernel_w) const;

  // ---- what is made of it
  // The tensor of input i, or of a value, done with what was pending.
  int plain(int i) { return plain(OnnxValue(input(i))); }
  int plain(const OnnxValue& v) { return importer_.plain(v); }
  const Shape& shape(int tensor) const { return importer_.shapes[static_cast<size_t>(tensor)]; }
  int affine(int tensor, const std::vector<float>& factor, const std::vector<float>& shift) {
    return importer_.affine(tensor, factor, shift);
  }
  // Named as the ONNX node where `name` is empty.
  int add(Node made, const std::string& name = "") {
    return importer_.add(std::move(made), name.empty() ? name_of_node() : name);
  }
  // The node's first output, or output i.
  void result(OnnxValue value) { result(0, std::move(value)); }
  void result(int tensor, bool flat = false);
  void result(int i, OnnxValue value) { importer_.define(current().output(i), std::move(value)); }
  OnnxValue& output() { return *importer_.find(current().output(0)); }

  OnnxImporter& importer_;
};

// The row of an operator that a member function of a family imports.
template <class Family>
void import_by(OnnxImporter& importer, void (Family::*method)()) {
  (Family(importer).*method)();
}
template <auto Method>
constexpr OnnxImport imports(std::string_view type) {
  return {type, [](OnnxImporter& importer) { import_by(importer, Method); }};
}

}  // namespace sextant::deploy
