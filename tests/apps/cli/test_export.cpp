// SPDX-License-Identifier: Apache-2.0
// Options of `sextant export` that would have no effect are refused, by name and with the reason.
#include "apps/cli/run_program.h"
#include "apps/commands/commands.h"
#include "deploy/graph/file.h"
#include "deploy/networks.h"

using namespace sextant;

namespace {

test::Outcome run_export(std::vector<std::string> words) {
  apps::Program program("test", "sextant");
  program.require_command();
  apps::add_export_command(program);
  words.insert(words.begin(), "export");
  return test::run_program(program, words);
}

}  // namespace

TEST_CASE("export: options without effect are refused") {
  const test::TemporaryFolder folder;
  const std::string model = (folder / "m.safetensors").string();
  const std::string onnx = (folder / "m.onnx").string();
  deploy::Graph g =
      deploy::fuse(test::traced(test::MixedNet(Activation::kReLU, 31), {1, 32, 32, 3}));
  g.image_size = 32;
  deploy::save_deploy(model, g);
  const auto refused = [&](const std::vector<std::string>& options, const std::string& message) {
    std::vector<std::string> words{model, "--onnx", onnx};
    words.insert(words.end(), options.begin(), options.end());
    const test::Outcome o = run_export(words);
    CAPTURE(o.error);
    CHECK(o.code == 2);
    CHECK(o.error == "sextant: export: " + message + "\n");
    CHECK_FALSE(std::filesystem::exists(onnx));
  };
  refused({"--for", "tensorrt"},
          "--for has no effect on fp32 models: it says where int8 models have Q/DQ pairs");
  refused({"--for", "openvino", "--precision", "fp16"},
          "--for has no effect on fp16 models: it says where int8 models have Q/DQ pairs");
  refused({"--batch", "1", "--dynamic-batch"},
          "--batch has no effect with --dynamic-batch: the model takes any number of images");
  refused({"--img", "64", "--dynamic-size"},
          "--img has no effect with --dynamic-size: the model takes images of any size");
  CHECK(run_export({model, "--onnx", onnx, "--dynamic-size", "--dynamic-batch"}).code == 0);
  CHECK(run_export({model, "--onnx", onnx, "--nms", "--max-det", "30000"}).code == 0);
  CHECK(run_export({model, "--onnx", onnx, "--nms", "--multi-label"}).code == 0);
  std::filesystem::remove(onnx);
  deploy::Node& last = g.nodes.back();
  auto& decode = last.as<deploy::DecodeAttributes>();
  decode.num_classes = 1;
  const std::vector<int> producers = g.producers();
  for (size_t l = 0; l < decode.strides.size(); ++l) {
    const int map = last.inputs[decode.maps_per_level() * l];
    deploy::Node& prediction = g.nodes[static_cast<size_t>(producers[static_cast<size_t>(map)])];
    const Shape& w = prediction.weight.shape();
    const auto first = prediction.weight.span<float>().first(static_cast<size_t>(w[3]));
    prediction.weight = Tensor::from({1, 1, 1, w[3]}, std::vector(first.begin(), first.end()));
    prediction.bias = Tensor::from({1}, std::vector{prediction.bias.f32()[0]});
    g.tensors[static_cast<size_t>(map)].shape[3] = 1;
  }
  g.tensors[static_cast<size_t>(g.output)].shape[2] = 6;
  deploy::save_deploy(model, g);
  refused({"--nms", "--multi-label"},
          "--multi-label has no effect on " + model + ": the model has one class");
}
