// SPDX-License-Identifier: Apache-2.0
// cuDNN's plans for the device described by h100.json. Nothing is run: tests/gpu checks results on
// a device.
#include "support/support.h"

#if !defined(SEXTANT_CUDNN)
TEST_CASE("plans of cuDNN") { test::skip("this build has no cuDNN"); }
#else

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "core/file.h"
#include "deploy/graph/conv_layers.h"
#include "deploy/graph/info.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/trace.h"
#include "kernels/conv_choice.h"
#include "kernels/cuda/libraries/cudnn_conv.h"
#include "models/yolov6.h"

namespace sextant::test {
namespace {

using namespace kernels;

// Before cuDNN looks for a driver, which it does once.
const cudnn::DeviceProperties& h100() {
  static const cudnn::DeviceProperties device = [] {
    const void* driver = dlopen(SEXTANT_PLAN_DRIVER, RTLD_NOW | RTLD_GLOBAL);
    check(driver != nullptr, "{}: {}", SEXTANT_PLAN_DRIVER, driver ? "" : dlerror());
    return cudnn::DeviceProperties::from_json(
        read_text(std::string(SEXTANT_SOURCE_DIR) + "/tests/cudnn/h100.json"));
  }();
  return device;
}

deploy::Graph graph_of(const std::string& preset) {
  const Yolov6 model(yolov6_preset(preset), 1);
  const_cast<Yolov6&>(model).train(false);
  deploy::NamedVariables names;
  for (const auto& p : model.parameters()) names.emplace_back(p.name, p.variable);
  return deploy::fuse(deploy::trace_model([&](const Variable& x) { return model.predict(x); },
                                          names, {1, 64, 64, 3}));
}

// What a plan computes, as its JSON has it, an operation each:
// "ADD: X float, B float [1,32,1,1] -> Y half [2,32,6,4]". Sizes are N,C,H,W; what stays between
// two operations has none.
using Operations = std::vector<std::string>;
Operations operations_of(const cudnn::Plan& plan) {
  const Json graph = Json::parse(plan.json()).at("operationGraph");
  const auto without = [](std::string text, std::initializer_list<const char*> parts) {
    for (const std::string part : parts)
      if (const size_t at = text.find(part); at != std::string::npos) text.erase(at, part.size());
    return text;
  };
  const auto tensor = [&](const Json& name) {
    const auto found = std::ranges::find_if(graph.at("tensors"),
                                            [&](const Json& t) { return t.at("name") == name; });
    const Json& t = *found;
    std::string type = without(t.at("dataType"), {"CUDNN_DATA_"});
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::tolower(c); });
    if (t.at("stride")[1] != 1) type += " not NHWC";
    return t.at("isVirtual") == true ? type : type + " " + t.at("dim").dump();
  };
  Operations operations;
  for (const Json& node : graph.at("nodes")) {
    std::string text =
        node.contains("pointwiseMode")
            ? without(node.at("pointwiseMode"), {"CUDNN_POINTWISE_"})
            : without(node.at("operation"), {"CUDNN_BACKEND_OPERATION_", "_DESCRIPTOR"});
    if (node.contains("pad"))
      text += fmt::format(" in {}, padding {}, stride {}, beta {}",
                          without(node.at("mathPrec"), {"CUDNN_DATA_"}), node.at("pad").dump(),
                          node.at("stride").dump(), node.at("beta").get<double>());
    const std::string result = node.contains("dX") ? "dX" : node.contains("dW") ? "dW" : "Y";
    std::string inputs, output;
    for (const std::string key : {"X", "dX", "W", "dW", "B", "Y", "dY"}) {
      if (!node.contains(key)) continue;
      const std::string part = fmt::format("{} {}", key, tensor(node.at(key)));
      if (key == result)
        output = part;
      else
        inputs += (inputs.empty() ? "" : ", ") + part;
    }
    operations.push_back(text + ": " + inputs + " -> " + output);
  }
  return operations;
}
Operations operations_of(const std::optional<cudnn::Plan>& plan) {
  return plan ? operations_of(*plan) : Operations{"no plan"};
}

int64_t engine_of(const std::optional<cudnn::Plan>& plan) {
  REQUIRE(plan);
  return Json::parse(plan->json()).at("engine").at("engineId");
}

// What a plan needs of pointers: whether they are null.
float real = 0;
int8_t integer = 0;

ConvInt8Forward int8_of(const deploy::ConvLayer& layer) {
  ConvInt8Forward p;
  p.shape = layer.shape;
  p.bias = p.factor = &real;
  p.x = p.y = &integer;
  p.w = &integer;
  p.epilogue = layer.epilogue;
  if (layer.epilogue.activation == Activation::kSiLU) p.epilogue.activation_scale = 0.5f;
  p.epilogue.residual_scale = 0.5f;
  p.residual = layer.residual ? &integer : nullptr;
  return p;
}

// Every one becomes a plan; on all threads, since most of the time goes to compiling.
void plan_all(const std::vector<deploy::ConvLayer>& layers) {
  const cudnn::DeviceProperties& device = h100();
  std::vector<std::string> failed(layers.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < layers.size(); i = next++) {
      const ConvInt8Forward p = int8_of(layers[i]);
      try {
        const Operations planned = operations_of(cudnn::plan_conv_int8_forward(p, device));
        const ConvShape& s = p.shape;
        const std::string x = fmt::format("X int8 [{},{},{},{}]", s.n, s.ic, s.h, s.w);
        const std::string y = fmt::format("Y int8 [{},{},{},{}]", s.n, s.oc, s.oh(), s.ow());
        if (planned[0].find(x) == std::string::npos || !planned.back().ends_with(y))
          failed[i] = planned[0] + " ... " + planned.back();
      } catch (const Error& e) {
        failed[i] = e.what();
      }
    }
  };
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t)
    threads.emplace_back(work);
  threads.clear();
  for (size_t i = 0; i < layers.size(); ++i) {
    INFO(layers[i].name << ": " << conv_key(int8_of(layers[i])) << ": " << failed[i]);
    CHECK(failed[i].empty());
  }
}

// No two sizes are alike but those of the kernel.
ConvShape small() { return {2, 12, 8, 16, 32, 3, 3, 2, 1, 1}; }

TEST_CASE("plans of cuDNN: a device's description goes in and comes out") {
  const std::string json = h100().json();
  CHECK(json.find("\"multiProcessorCount\":132") != std::string::npos);
  CHECK_THROWS_WITH(cudnn::DeviceProperties::from_json("{}"), Contains("cuDNN"));
}

TEST_CASE("plans of cuDNN: int8, stored and read back") {
  ConvInt8Forward p;
  p.shape = small();
  p.bias = p.factor = &real;
  p.epilogue.activation = Activation::kReLU;
  const auto plan = cudnn::plan_conv_int8_forward(p, h100());
  REQUIRE(plan);
  CHECK(operations_of(plan) ==
        Operations{"CONVOLUTION_FORWARD in INT32, padding [1,1], stride [2,2], beta 0: X int8 "
                   "[2,16,12,8], W int8 [32,16,3,3] -> Y int32",
                   "ADD: X int32, B float [1,32,1,1] -> Y float",
                   "MUL: X float, B float [1,32,1,1] -> Y float",
                   "RELU_FWD: X float -> Y int8 [2,32,6,4]"});
  const std::string json = plan->json();
  CHECK(Json::parse(json).is_object());
  const auto again = cudnn::Plan::from_json(json, h100());
  CHECK(again.workspace_bytes() == plan->workspace_bytes());
  CHECK(again.json() == json);
  CHECK_THROWS_WITH(cudnn::Plan::from_json("{}", h100()), Contains("cuDNN"));
}

TEST_CASE("plans of cuDNN: f16 forward, both gradients with f32 sums of the weights'") {
  ConvForward f;
  f.shape = small();
  f.dtype = DType::kF16;
  CHECK(operations_of(cudnn::plan_conv_forward(f, h100())) ==
        Operations{"CONVOLUTION_FORWARD in FLOAT, padding [1,1], stride [2,2], beta 0: X half "
                   "[2,16,12,8], W half [32,16,3,3] -> Y half [2,32,6,4]"});
  f.bias = &real;
  f.epilogue.activation = Activation::kReLU;
  CHECK(operations_of(cudnn::plan_conv_forward(f, h100())) ==
        Operations{"CONVOLUTION_FORWARD in FLOAT, padding [1,1], stride [2,2], beta 0: X half "
                   "[2,16,12,8], W half [32,16,3,3] -> Y float",
                   "ADD: X float, B float [1,32,1,1] -> Y float",
                   "RELU_FWD: X float -> Y half [2,32,6,4]"});
  f.epilogue.activation = Activation::kHardswish;
  CHECK_FALSE(cudnn::plan_conv_forward(f, h100()));
  ConvBackwardData d;
  d.shape = small();
  d.dtype = DType::kF16;
  CHECK(operations_of(cudnn::plan_conv_backward_data(d, h100())) ==
        Operations{"CONVOLUTION_BACKWARD_DATA in FLOAT, padding [1,1], stride [2,2], beta 0: W "
                   "half [32,16,3,3], dY half [2,32,6,4] -> dX half [2,16,12,8]"});
  d.bias = &real;
  CHECK_FALSE(cudnn::plan_conv_backward_data(d, h100()));
  ConvBackwardWeight w;
  w.shape = small();
  w.dtype = DType::kF16;
  CHECK(operations_of(cudnn::plan_conv_backward_weight(w, h100())) ==
        Operations{"CONVOLUTION_BACKWARD_FILTER in FLOAT, padding [1,1], stride [2,2], beta 0: X "
                   "half [2,16,12,8], dY half [2,32,6,4] -> dW float",
                   "IDENTITY: X float -> Y float [32,16,3,3]"});
}

TEST_CASE("plans of cuDNN: f32 without TF32") {
  ConvForward f;
  f.shape = small();
  CHECK(operations_of(cudnn::plan_conv_forward(f, h100())) ==
        Operations{"CONVOLUTION_FORWARD in FLOAT, padding [1,1], stride [2,2], beta 0: X float "
                   "[2,16,12,8], W float [32,16,3,3] -> Y float [2,32,6,4]"});
  ConvBackwardData d;
  d.shape = small();
  d.accumulate = true;
  const auto plan = cudnn::plan_conv_backward_data(d, h100());
  CHECK(operations_of(plan) ==
        Operations{"CONVOLUTION_BACKWARD_DATA in FLOAT, padding [1,1], stride [2,2], beta 1: W "
                   "float [32,16,3,3], dY float [2,32,6,4] -> dX float [2,16,12,8]"});
  ConvBackwardWeight w;
  w.shape = small();
  CHECK(operations_of(cudnn::plan_conv_backward_weight(w, h100())) ==
        Operations{"CONVOLUTION_BACKWARD_FILTER in FLOAT, padding [1,1], stride [2,2], beta 0: X "
                   "float [2,16,12,8], dY float [2,32,6,4] -> dW float [32,16,3,3]"});
  // Where cuDNN may choose among all engines, its first is one of tensor cores.
  cudnn::OperationGraph g;
  const int64_t dx = g.tensor({2, 16, 12, 8}, CUDNN_DATA_FLOAT),
                weight = g.tensor({32, 16, 3, 3}, CUDNN_DATA_FLOAT),
                dy = g.tensor({2, 32, 6, 4}, CUDNN_DATA_FLOAT);
  g.convolution_backward_data({2, 1, CUDNN_DATA_FLOAT, 1.0f}, dy, weight, dx);
  cudnn::EngineFilter exact;
  exact.without.insert(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
  CHECK(engine_of(plan) == engine_of(g.plan(h100(), exact)));
  CHECK(engine_of(plan) != engine_of(g.plan(h100())));
}

// At 640 px and batch 1. S is hidden: it takes as long again, a second or more for each plan.
TEST_CASE("plans of cuDNN: every convolution of YOLOv6-N in int8") {
  plan_all(deploy::conv_layers(graph_of("yolov6n_opt"), 1, 640, 640));
}
TEST_CASE("plans of cuDNN: every convolution of YOLOv6-S in int8", "[.slow]") {
  plan_all(deploy::conv_layers(graph_of("yolov6s_opt"), 1, 640, 640));
}

TEST_CASE("the list of a model's convolutions holds all of its arithmetic") {
  const deploy::Graph graph = graph_of("yolov6n_opt");
  const auto layers = deploy::conv_layers(graph, 2, 640, 320);
  double sum = 0;
  int count = 0;
  for (const auto& layer : layers) {
    sum += layer.count * layer.shape.flops();
    count += layer.count;
  }
  CHECK(count == std::ranges::count_if(graph.nodes, [](const auto& n) { return n.has_weight(); }));
  CHECK(layers.size() > 30);
  CHECK(sum == Approx(2 * deploy::summarize(graph, 640, 320).flops));
}

}  // namespace
}  // namespace sextant::test
#endif
