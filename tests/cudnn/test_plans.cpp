// cuDNN's plans, made for the device that h100.json describes. Nothing is run: what the plans give
// is checked on a device, in tests/gpu.
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

// What a plan needs of pointers: whether they are null.
float real = 0;
int8_t integer = 0;

ConvInt8Forward int8_of(const deploy::ConvLayer& layer) {
  ConvInt8Forward p;
  p.shape = layer.shape;
  p.bias = p.factor = &real;
  p.x = p.y = &integer;
  p.w = &integer;
  p.act = layer.activation;
  p.activation_scale = layer.activation == Activation::kSiLU ? 0.5f : 1.0f;
  p.residual = layer.residual ? &integer : nullptr;
  p.residual_scale = 0.5f;
  p.residual_before_activation = layer.residual_before_activation;
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
        if (!cudnn::plan_conv_int8_forward(p, device)) failed[i] = "no plan";
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

ConvShape small() { return {1, 8, 8, 32, 32, 3, 3, 1, 1, 1}; }

TEST_CASE("plans of cuDNN: a device's description goes in and comes out") {
  const std::string json = h100().json();
  CHECK(json.find("\"multiProcessorCount\":132") != std::string::npos);
  CHECK_THROWS_WITH(cudnn::DeviceProperties::from_json("{}"), Catch::Contains("cuDNN"));
}

TEST_CASE("plans of cuDNN: int8, stored and read back") {
  ConvInt8Forward p;
  p.shape = small();
  p.bias = p.factor = &real;
  p.act = Activation::kReLU;
  const auto plan = cudnn::plan_conv_int8_forward(p, h100());
  REQUIRE(plan);
  const std::string json = plan->json();
  CHECK(Json::parse(json).is_object());
  const auto again = cudnn::Plan::from_json(json, h100());
  CHECK(again.workspace_bytes() == plan->workspace_bytes());
  CHECK(again.json() == json);
  CHECK_THROWS_WITH(cudnn::Plan::from_json("{}", h100()), Catch::Contains("cuDNN"));
}

TEST_CASE("plans of cuDNN: f16 forward, both gradients with f32 sums of the weights'") {
  ConvForward f;
  f.shape = small();
  f.dtype = DType::kF16;
  CHECK(cudnn::plan_conv_forward(f, h100()));
  f.bias = &real;
  f.act = Activation::kReLU;
  CHECK(cudnn::plan_conv_forward(f, h100()));
  f.act = Activation::kHardswish;
  CHECK_FALSE(cudnn::plan_conv_forward(f, h100()));
  ConvBackwardData d;
  d.shape = small();
  d.dtype = DType::kF16;
  CHECK(cudnn::plan_conv_backward_data(d, h100()));
  d.bias = &real;
  CHECK_FALSE(cudnn::plan_conv_backward_data(d, h100()));
  ConvBackwardWeight w;
  w.shape = small();
  w.dtype = DType::kF16;
  CHECK(cudnn::plan_conv_backward_weight(w, h100()));
}

TEST_CASE("plans of cuDNN: f32 without TF32") {
  ConvForward f;
  f.shape = small();
  CHECK(cudnn::plan_conv_forward(f, h100()));
  ConvBackwardData d;
  d.shape = small();
  CHECK(cudnn::plan_conv_backward_data(d, h100()));
  ConvBackwardWeight w;
  w.shape = small();
  CHECK(cudnn::plan_conv_backward_weight(w, h100()));
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
