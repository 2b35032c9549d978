// SPDX-License-Identifier: Apache-2.0
// Scales: found, stored and matched by name.
#include <limits>

#include "core/config.h"
#include "layers/blocks.h"
#include "optim/rep_scales.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::optim;

namespace {

// Blocks with the official names of LinearAddBlock and RealVGGBlock.
class SearchBlock : public Module {
 public:
  SearchBlock(int64_t in, int64_t out, bool identity, uint64_t seed) {
    Rng rng(seed);
    register_module("conv", std::make_shared<Conv2d>(in, out, 3, ConvParams{}, false, rng));
    scale("scale_conv", out, seed);
    register_module("conv_1x1", std::make_shared<Conv2d>(in, out, 1, ConvParams{}, false, rng));
    scale("scale_1x1", out, seed + 1);
    if (identity) scale("scale_identity", out, seed + 2);
    register_module("bn", std::make_shared<BatchNorm2d>(out));
  }

 private:
  struct Scale : Module {
    Scale(int64_t n, uint64_t seed) {
      register_parameter("weight", test::random_tensor({n}, seed, 0.5, 1.5));
    }
  };
  void scale(const std::string& name, int64_t n, uint64_t seed) {
    register_module(name, std::make_shared<Scale>(n, seed));
  }
};

class TargetBlock : public Module {
 public:
  TargetBlock(int64_t in, int64_t out) {
    Rng rng(1);
    register_module("conv", std::make_shared<Conv2d>(in, out, 3, ConvParams{}, false, rng));
    register_module("bn", std::make_shared<BatchNorm2d>(out));
  }
};

class Net : public Module {
 public:
  template <class M>
  void push(const std::string& name, std::shared_ptr<M> m) {
    register_module(name, std::move(m));
  }
};

// "stage" comes before "stem" in the map and after it in the model.
std::shared_ptr<Net> search_model(uint64_t seed) {
  auto net = std::make_shared<Net>();
  net->push("stem", std::make_shared<SearchBlock>(3, 8, false, seed));
  net->push("stage", std::make_shared<SearchBlock>(8, 8, true, seed + 10));
  return net;
}

std::vector<NamedParameter> target_parameters() {
  Net net;
  Rng rng(5);
  net.push("stage", std::make_shared<TargetBlock>(8, 8));
  net.push("stem", std::make_shared<TargetBlock>(3, 8));
  net.push("neck", std::make_shared<ConvBNAct>(8, 8, 3, 1, Activation::kReLU, rng));
  std::vector<NamedParameter> out;
  for (const auto& p : net.parameters()) out.push_back(named_parameter(p.name, p.variable));
  return out;
}

Tensor& find(SafeTensors& file, const std::string& name) {
  for (auto& [key, tensor] : file.tensors)
    if (key == name) return tensor;
  FAIL("no tensor " << name);
  return file.tensors[0].second;
}

void erase(SafeTensors& file, const std::string& name) {
  std::erase_if(file.tensors, [&](const auto& t) { return t.first == name; });
}

}  // namespace

TEST_CASE("scales survive a checkpoint and a scales file") {
  const auto model = search_model(3);
  SafeTensors checkpoint;
  checkpoint.path = "search.safetensors";
  model->save_state(checkpoint, "ema.");
  const RepScales scales = extract_scales(checkpoint, "ema.");
  CHECK(scales.source == "search.safetensors");
  REQUIRE(scales.blocks.size() == 2);
  CHECK(scales.blocks.at("stem").size() == 2);
  CHECK(scales.blocks.at("stage").size() == 3);

  test::TemporaryFolder folder;
  SafeTensors file;
  file.tensors = scales.named();
  CHECK(file.tensors.size() == 5);
  save_safetensors(folder / "scales.safetensors", file);
  const RepScales again = extract_scales(load_safetensors(folder / "scales.safetensors"));
  const RepScales live = extract_scales(*model);
  for (const auto& [block, branches] : scales.blocks)
    for (const auto& [branch, tensor] : branches) {
      INFO(block << " " << branch);
      CHECK(test::max_difference(again.blocks.at(block).at(branch), tensor) == 0.0);
      CHECK(test::max_difference(live.blocks.at(block).at(branch), tensor) == 0.0);
    }
}

TEST_CASE("scales go to the block of their name") {
  const RepScales scales = extract_scales(*search_model(3));
  const auto handlers =
      rep_handlers(scales, extract_scales(*search_model(77)), target_parameters());
  REQUIRE(handlers.size() == 2);
  for (const RepHandler& handler : handlers) {
    const std::string block = handler.parameter == "stem.conv.weight" ? "stem" : "stage";
    CHECK(handler.parameter == block + ".conv.weight");
    size_t found = 0;
    for (const LinearBranch& b : handler.branches) {
      const bool identity = b.kind == LinearBranch::Kind::kIdentity;
      const std::string branch = identity ? "identity" : (b.kernel == 3 ? "conv" : "1x1");
      CHECK(test::max_difference(b.scale, scales.blocks.at(block).at(branch)) == 0.0);
      ++found;
    }
    CHECK(found == (block == "stem" ? 2 : 3));
  }
}

TEST_CASE("scales that do not fit are named") {
  const RepScales expected = extract_scales(*search_model(3));
  const auto parameters = target_parameters();
  SafeTensors file;
  file.path = "hs.safetensors";
  search_model(4)->save_state(file);
  const auto error = [&] {
    return test::error_of([&] { rep_handlers(extract_scales(file), expected, parameters); });
  };
  CHECK(error() == "no error");
  SECTION("a block is missing") {
    erase(file, "stage.scale_conv.weight");
    erase(file, "stage.scale_1x1.weight");
    erase(file, "stage.scale_identity.weight");
    CHECK(error() == "hs.safetensors: the scales of block 'stage' are missing");
  }
  SECTION("a branch is missing") {
    erase(file, "stage.scale_identity.weight");
    CHECK(error() == "hs.safetensors: block 'stage': scale_identity is missing");
  }
  SECTION("the main branch is missing") {
    erase(file, "stem.scale_conv.weight");
    CHECK(error() == "hs.safetensors: block 'stem' has no scale_conv");
  }
  SECTION("a block too many") {
    file.add("neck.scale_conv.weight", Tensor::zeros({8}));
    CHECK(error() == "hs.safetensors: block 'neck' has scales, but the model has no such block");
  }
  SECTION("a branch too many") {
    file.add("stem.scale_identity.weight", Tensor::zeros({8}));
    CHECK(error() ==
          "hs.safetensors: block 'stem': unexpected scale_identity, the model's block has no such "
          "branch");
  }
  SECTION("another width") {
    find(file, "stage.scale_1x1.weight") = Tensor::zeros({16});
    CHECK(error() == "hs.safetensors: block 'stage': scale_1x1 is [16], the model's is [8]");
  }
  SECTION("not a vector") {
    find(file, "stage.scale_1x1.weight") = Tensor::zeros({8, 1});
    CHECK(error() == "hs.safetensors: block 'stage': scale_1x1 is F32 [8,1], needs F32 [C]");
  }
  SECTION("not finite") {
    find(file, "stem.scale_conv.weight").f32()[3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(error() == "hs.safetensors: block 'stem': scale_conv is not finite");
  }
  SECTION("no scales at all") {
    std::erase_if(file.tensors,
                  [](const auto& t) { return t.first.find("scale_") != std::string::npos; });
    CHECK(error() ==
          "hs.safetensors: has no scales ('<block>.scale_conv.weight'); is it the checkpoint of a "
          "hyper-search?");
  }
}

TEST_CASE("a target without the block, or of another width, is refused") {
  const RepScales scales = extract_scales(*search_model(3));
  auto parameters = target_parameters();
  for (NamedParameter& p : parameters)
    if (p.name == "stem.conv.weight") p.variable = Variable(Tensor::zeros({16, 3, 3, 3}), true);
  CHECK(test::error_of([&] { rep_handlers(scales, scales, parameters); }) ==
        "search model: block 'stem': scale_1x1 is [8], 'stem.conv.weight' is [16,3,3,3]");
  std::erase_if(parameters, [](const NamedParameter& p) { return p.name == "stem.conv.weight"; });
  CHECK(test::error_of([&] { rep_handlers(scales, scales, parameters); }) ==
        "search model: block 'stem' has scales, but the target has no 'stem.conv.weight'");
}

TEST_CASE("branches are known by their names") {
  const auto kernel_of = [](const std::string& branch) {
    RepScales s;
    s.source = "s";
    s.blocks["b"]["conv"] = s.blocks["b"][branch] = Tensor::full({4}, 1.0f);
    const std::vector<NamedParameter> p = {
        named_parameter("b.conv.weight", Variable(Tensor::zeros({4, 7, 7, 4}), true))};
    const std::vector<RepHandler> handlers = rep_handlers(s, s, p);
    for (const LinearBranch& b : handlers.at(0).branches)
      if (b.kernel != 7) return b.kernel;
    return int64_t{0};
  };
  CHECK(kernel_of("1x1") == 1);
  CHECK(kernel_of("5x5") == 5);
  CHECK(test::error_of([&] { kernel_of("3x5"); }) ==
        "s: block 'b': scale_3x5 is neither conv, <k>x<k> nor identity");
  CHECK(test::error_of([&] { kernel_of("pool"); }) ==
        "s: block 'b': scale_pool is neither conv, <k>x<k> nor identity");
}

TEST_CASE("the official search and target models have the same blocks") {
  const std::string end = "_hyper_search.json";
  for (const auto& path : test::shared_files("fixtures/models", end)) {
    const std::string file = path.filename().string();
    const std::string model = file.substr(0, file.size() - end.size());
    INFO(model);
    SafeTensors search;
    search.path = file;
    const Json from = load_json(path);
    for (const Json& e : from.at("state_dict")) {
      const std::vector<int64_t> dims = e.at("shape");
      if (e.at("kind") == "scale.weight") search.add(e.at("name"), Tensor::full(Shape(dims), 1.0f));
    }
    std::vector<NamedParameter> target;
    const Json to = load_json(path.parent_path() / (model + "_repopt.json"));
    for (const Json& e : to.at("state_dict")) {
      const std::vector<int64_t> d = e.at("shape");
      if (e.at("kind") == "conv.weight")
        target.push_back(
            named_parameter(e.at("name"), Variable(Tensor(Shape{d[0], d[2], d[3], d[1]}), true)));
    }
    const RepScales scales = extract_scales(search);
    const auto handlers = rep_handlers(scales, scales, target);
    CHECK(handlers.size() == scales.blocks.size());
    CHECK_FALSE(handlers.empty());
    set_multipliers(handlers, target, RepRule::kSgd);  // every identity fits its weight
  }
}
