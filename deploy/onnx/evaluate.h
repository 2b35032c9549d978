// SPDX-License-Identifier: Apache-2.0
// Computes single operators of an ONNX model: on its constants, and on small arrays to find out
// what the end of another tool's detector does. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "deploy/onnx/constant.h"
#include "deploy/onnx/reads.h"

namespace sextant::deploy {

struct OnnxArray {
  std::vector<int64_t> dims;
  std::vector<double> values;
  bool whole = false;  // of an integer type: divisions truncate
};

OnnxArray array_of(const OnnxConstant& constant);
OnnxArray array_of(std::vector<int64_t> dims, const std::vector<float>& values);

// What a Shape with these attributes gives.
std::vector<int64_t> part_of_shape(const std::vector<int64_t>& dims, int64_t start, int64_t end);
// The sizes of a Split without sizes. Throws Error where it does not divide, unless the last part
// may be smaller.
std::vector<int64_t> equal_parts(int64_t size, int64_t parts, bool last_smaller);

// Zeros; throws Error for a shape with more values than the end of a detector needs.
OnnxArray zeros_array(std::vector<int64_t> dims);

class OnnxEvaluator {
 public:
  explicit OnnxEvaluator(int64_t opset) : opset_(opset) {}

  void set(const std::string& name, OnnxArray array);
  void set(const onnx::TensorProto& constant);
  // Null if no value of that name has been computed.
  const OnnxArray* find(const std::string& name) const;
  // Whether run() has the operator.
  static bool knows(const std::string& type);
  // Computes the outputs of `node`. Throws Error for an unsupported operator or form of one, an
  // attribute or input that it does not read, an input without a value, shapes that do not match,
  // and when all arrays together exceed what a detector's end needs.
  void run(const onnx::NodeProto& node);
  // The ONNX type of the node's outputs, given those of its inputs.
  static int result_type(const onnx::NodeProto& node, std::span<const int> inputs);

 private:
  using Handler = void (OnnxEvaluator::*)();
  static const std::map<std::string, Handler>& handlers();

  const OnnxArray& in(int i) const;
  bool has(int i) const;
  void out(OnnxArray array, int i = 0);
  const onnx::AttributeProto* attribute(const char* name) const;
  int64_t integer(const char* name, int64_t standard) const;
  // From the attribute, or in later opsets from input i; empty if absent.
  std::vector<int64_t> integers(const char* name, int i) const;
  static std::vector<int64_t> integers_of(const OnnxArray& array);

  template <class F>
  void binary(const F& f);
  template <class F>
  void unary(const F& f);
  void negate();
  void square_root();
  void round_down();
  void round_up();
  void minimum();
  void maximum();
  void clip();
  void add();
  void subtract();
  void multiply();
  void divide();
  void power();
  void equal();
  void where();
  void sigmoid();
  void exponential();
  void cast();
  void identity();
  void softmax();
  void matmul();
  void conv();
  void reshape();
  void flatten();
  void squeeze();
  void unsqueeze();
  void transpose();
  void concat();
  void slice();
  void pad();
  void split();
  void expand();
  void gather();
  void shape();
  void range();
  void constant();
  void constant_of_shape();

  int64_t opset_;
  std::map<std::string, OnnxArray> values_;
  int64_t elements_ = 0;  // in all arrays
  const onnx::NodeProto* now_ = nullptr;
  mutable OnnxReads reads_;  // of the current node
};

}  // namespace sextant::deploy
