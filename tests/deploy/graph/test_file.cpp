// SPDX-License-Identifier: Apache-2.0
// The deploy file: round trips, and errors that name the fault.
#include <cmath>

#include "core/config.h"
#include "deploy/graph/file.h"
#include "deploy/networks.h"
#include "deploy/run_engine.h"

using namespace sextant;
using namespace sextant::deploy;
using test::run_on_noise;

namespace {

Graph small_graph(bool quantized) {
  const test::MixedNet net(Activation::kReLU, 21);
  Graph g = fuse(test::traced(net, {1, 32, 32, 3}));
  g.class_names = {"a", "b", "c"};
  g.image_size = 320;
  return quantized ? test::with_ranges(g, test::random_images({1, 32, 32, 3}, 22)) : g;
}

}  // namespace

TEST_CASE("a deploy file survives the round trip") {
  const test::TemporaryFolder folder;
  const Graph g = small_graph(false);
  save_deploy(folder / "f.safetensors", g, {{"note", "kept"}});
  const SafeTensors file = load_safetensors(folder / "f.safetensors");
  CHECK(is_deploy_file(file));
  CHECK(file.meta("note") == "kept");
  // PyTorch's layouts
  CHECK(file.at("stem.rbr_reparam.weight").shape() == Shape{16, 3, 3, 3});
  CHECK(file.at("up.upsample_transpose.weight").shape() == Shape{32, 16, 2, 2});
  const Node* up = g.find_node("up.upsample_transpose");
  CHECK(file.at("up.upsample_transpose.weight").f32()[(5 * 16 + 7) * 4 + 2] ==
        up->weight.f32()[(7 * 4 + 2) * 32 + 5]);

  const Graph back = load_deploy(folder / "f.safetensors");
  CHECK(back.class_names == g.class_names);
  CHECK(back.image_size == 320);
  CHECK(back.nodes.size() == g.nodes.size());
  CHECK(test::max_difference(run_on_noise(back, Precision::kFloat32),
                             run_on_noise(g, Precision::kFloat32)) == 0);
  CHECK(test::error_of([&] { run_on_noise(back, Precision::kInt8); }) ==
        (folder / "f.safetensors").string() + ": has no activation ranges; run sextant quantize");
}

TEST_CASE("a quantized file is smaller and runs the same in int8, dequantized in fp32") {
  const test::TemporaryFolder folder;
  Graph g = small_graph(true);
  const Tensor exact = run_on_noise(g, Precision::kFloat32);
  save_deploy(folder / "i.safetensors", g);
  const SafeTensors file = load_safetensors(folder / "i.safetensors");
  CHECK(file.at("stem.rbr_reparam.weight").dtype() == DType::kI8);
  const Graph back = load_deploy(file);
  CHECK(back.quantized());
  CHECK(test::max_difference(run_on_noise(back, Precision::kInt8),
                             run_on_noise(g, Precision::kInt8)) == 0);
  const double apart = test::relative_difference(run_on_noise(back, Precision::kFloat32), exact);
  CHECK(apart > 0);
  CHECK(apart < 0.05);
  // again, through another file: nothing drifts
  save_deploy(folder / "j.safetensors", back);
  const SafeTensors second = load_safetensors(folder / "j.safetensors");
  for (const auto& [name, t] : file.tensors) {
    CAPTURE(name);
    REQUIRE(second.at(name).bytes() == t.bytes());
    CHECK(std::memcmp(second.at(name).raw(), t.raw(), static_cast<size_t>(t.bytes())) == 0);
  }
  CHECK(second.meta("sextant") == file.meta("sextant"));
  // a node kept in float keeps its float weights
  for (Node& n : g.nodes)
    if (n.name == "stem.rbr_reparam") n.precision = Precision::kFloat32;
  save_deploy(folder / "p.safetensors", g);
  CHECK(load_safetensors(folder / "p.safetensors").at("stem.rbr_reparam.weight").dtype() ==
        DType::kF32);
  CHECK(test::max_difference(run_on_noise(load_deploy(folder / "p.safetensors"), Precision::kInt8),
                             run_on_noise(g, Precision::kInt8)) == 0);
}

TEST_CASE("broken deploy files are refused with one line that names the fault") {
  const test::TemporaryFolder folder;
  save_deploy(folder / "f.safetensors", small_graph(true));
  const SafeTensors good = load_safetensors(folder / "f.safetensors");
  const Json json = Json::parse(good.meta("sextant"));
  const auto error = [&](const std::function<void(Json&, SafeTensors&)>& spoil) {
    Json j = json;
    SafeTensors f = good;
    f.path = "bad.safetensors";
    spoil(j, f);
    if (!j.is_null()) f.metadata["sextant"] = j.dump();
    const std::string message = test::error_of([&] { load_deploy(f); });
    CAPTURE(message);
    CHECK(message.starts_with("bad.safetensors: "));
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  const auto says = [](const std::string& message, const std::string& part) {
    INFO(message);
    CHECK(message.find(part) != std::string::npos);
  };
  const auto node = [](Json& j, const std::string& name) -> Json& {
    for (Json& n : j["nodes"])
      if (n["name"] == name) return n;
    return j["nodes"][0];
  };
  using F = SafeTensors;
  says(error([](Json& j, F& f) { j = Json(), f.metadata.clear(); }), "is not a deploy file");
  says(error([](Json& j, F& f) { j = Json(), f.metadata["sextant"] = "{"; }), "not valid JSON");
  says(error([](Json& j, F& f) { j = Json(), f.metadata["sextant"] = std::string(100000, '['); }),
       "nested more than");
  says(error([](Json& j, F&) { j["class_names"] = {"a", "b", "a"}; }), "duplicate class name 'a'");
  says(error([](Json& j, F&) { j["version"] = 9; }), "version 9 is not supported");
  says(error([](Json& j, F&) { j["extra"] = 1; }), "extra");
  says(error([](Json& j, F&) { j["nodes"] = 3; }), "arrays of equal length");
  says(error([](Json& j, F&) { j["nodes"].erase(4); }), "arrays of equal length");
  says(error([](Json& j, F&) { j["nodes"][2] = "x"; }), "node 2 must be an object");
  says(error([](Json& j, F&) { std::swap(j["nodes"][3], j["nodes"][6]); }), "before any node");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["inputs"][1] = "c1.block.conv"; }),
       "node 'c1.block.conv' reads tensor 'c1.block.conv' before");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["inputs"][0] = "nobody"; }),
       "node 'c1.block.conv' refers to tensor 'nobody'");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["kind"] = "magic"; }),
       "node 'c1.block.conv': unknown node kind 'magic'; use input, conv, ");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["stride"] = 1e300; }),
       "must be an integer");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["stride"] = 0; }), "must be in [1,");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["padding"] = 60000; }), "padding");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["groups"] = 7; }), "7 groups");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["activation"] = "tanh"; }), "tanh");
  says(error([&](Json& j, F&) { node(j, "c1.block.conv")["strid"] = 1; }), "strid");
  says(error([](Json& j, F&) { j["tensors"][1]["amax"] = -1; }), "amax is -1");
  says(error([](Json& j, F&) { j["tensors"][1]["amax"] = "x"; }), "amax");
  says(error([](Json& j, F&) {
         j["tensors"][1]["shape"] = {1, 2, 3, 4};
       }),
       "expected [1,16,16,16]");
  says(error([](Json& j, F&) { j["tensors"][1]["shape"] = {1, -2, 3, 4}; }), "is out of bounds");
  says(error([](Json& j, F&) { j["tensors"][1]["name"] = j["tensors"][2]["name"]; }),
       "duplicate tensor");
  says(error([](Json& j, F&) { j["class_names"] = {"only"}; }), "1 class names for 3 classes");
  says(error([](Json& j, F&) { j["output"] = "images"; }), "decode");
  const auto tensor = [](F& f, const std::string& name) -> Tensor& {
    for (auto& [n, t] : f.tensors)
      if (n == name) return t;
    return f.tensors[0].second;
  };
  says(error([](Json&, F& f) { f.tensors[0].first = "gone"; }), "has no tensor");
  says(error([](Json&, F& f) { f.add("more", Tensor::zeros({1})); }),
       "'more' does not belong to any node");
  says(error([&](Json&, F& f) {
         tensor(f, "c1.block.conv.weight") = Tensor::zeros({16, 15, 3, 3}, DType::kI8);
       }),
       "weight [16,3,3,15] with 1 groups does not fit input");
  says(error([&](Json&, F& f) { tensor(f, "c1.block.conv.bias") = Tensor::zeros({3}); }),
       "'c1.block.conv.bias' is F32 [3], expected F32 [16]");
  says(error([&](Json&, F& f) { tensor(f, "c1.block.conv.bias") = Tensor::full({16}, NAN); }),
       "tensor 'c1.block.conv.bias' holds nan, must be finite");
  says(error([&](Json&, F& f) { tensor(f, "c1.block.conv.weight_scale") = Tensor::zeros({16}); }),
       "weight scales must be positive");
}
