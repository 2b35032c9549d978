// Turns the nodes of an ONNX model into nodes of a graph, one after the other. Internal to
// deploy/onnx_*; deploy/onnx/import.h is the door.
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

  // Names the operators that import_node() does not know.
  static bool knows(const onnx::NodeProto& node);
  // Throws Error about the node, without naming it.
  void import_node(const onnx::NodeProto& node);

  void constant(const onnx::TensorProto& tensor);
  // Our tensor of that name, done with all that was pending. Throws where there is none.
  int tensor_of(const std::string& name);
  // The shape of the image or map of that name, [1,H,W,C]; null where there is none, or it is not
  // done with what is pending.
  const Shape* map_shape(const std::string& name) const;
  // Puts `node` behind the others; returns its tensor. The name is made unique.
  int add(Node node, const std::string& name);

  Graph graph;                // as far as it got; `output` is the caller's
  std::vector<Shape> shapes;  // of its tensors, for one image
  int64_t opset = 13;
  int64_t batch = 1;  // that the model was written for

 private:
  using Handler = void (OnnxImporter::*)();
  static const std::map<std::string, Handler>& handlers();

  // ---- what the current node says (onnx_importer.cpp)
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
  int plain(int i);  // the tensor of input i, done with what was pending
  int plain(const OnnxValue& v);
  const Shape& shape(int tensor) const { return shapes[static_cast<size_t>(tensor)]; }
  void result(OnnxValue value);
  void result(int tensor, bool flat = false);
  std::string name_of_node() const;
  // Both inputs are constants: lists of a few integers, as shapes are reckoned with.
  void fold_integers();
  OnnxValue joined_floats();
  int affine(int tensor, const std::vector<float>& factor, const std::vector<float>& shift);
  int activate(int tensor, Activation a);

  // ---- layers with weights, pools, Q/DQ (onnx_layers.cpp)
  struct Weights;
  struct Window;
  Weights weights(int i, size_t out_axis) const;
  std::vector<float> bias_values(int i, int64_t channels) const;
  Window window(const Shape& x, int64_t kernel_h, int64_t kernel_w) const;
  void convolution(const OnnxValue& source, Weights w, const Window& g, int64_t groups,
                   std::vector<float> bias);
  void fully_connected(Weights w, bool transposed, float alpha, std::vector<float> bias);
  void conv();
  void conv_transpose();
  void gemm();
  void matmul();
  void batch_norm();
  void max_pool();
  void average_pool();
  void global_average_pool();
  void reduce_mean();
  void pad();
  void quantize();
  void dequantize();

  // ---- element by element (onnx_operators.cpp)
  std::vector<float> per_channel(const OnnxConstant& c, const OnnxValue& other) const;
  void relu() { result(activate(plain(0), Activation::kReLU), input(0).flat); }
  void sigmoid() { result(activate(plain(0), Activation::kSigmoid), input(0).flat); }
  void hard_swish() { result(activate(plain(0), Activation::kHardswish), input(0).flat); }
  void mish() { result(activate(plain(0), Activation::kMish), input(0).flat); }
  void leaky_relu();
  void clip();
  void pending_function();
  void add_or_subtract();
  void multiply();
  void divide();
  void identity();

  // ---- shapes (onnx_operators.cpp)
  void constant_node();
  void concat();
  void slice();
  void split();
  void flatten();
  void reshape();
  void squeeze();
  void unsqueeze();
  void softmax();
  void resize();
  void shape_of();
  void gather();

  std::map<std::string, OnnxValue> values_;
  std::deque<onnx::TensorProto> owned_;  // constants that no initializer holds
  std::set<std::string> names_;
  std::map<NodeKind, int> count_;
  const onnx::NodeProto* now_ = nullptr;
};

}  // namespace sextant::deploy
