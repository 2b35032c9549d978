// SPDX-License-Identifier: Apache-2.0
// Files that prove their integers: on every instruction set, after changes, with damaged proofs.
#include "core/hash.h"
#include "core/parallel.h"
#include "deploy/engine/selftest.h"
#include "deploy/graph/file.h"
#include "deploy/networks.h"
#include "kernels/cpu/isa.h"

using namespace sextant;
using namespace sextant::deploy;
using sextant::test::Contains;
using sextant::test::error_of;

namespace {

Graph network(Activation activation) {
  const Shape shape{1, 32, 32, 3};
  const test::MixedNet net(activation, 21);
  Graph g = test::with_ranges(fuse(test::traced(net, shape)), test::random_images(shape, 22));
  g.image_size = 64;
  return g;
}

std::string proof_error(const std::string& text) {
  return error_of([&] { parse_proof(text, "file"); });
}

}  // namespace

TEST_CASE("golden images are what they were") {
  const auto hash = [](int which, int64_t h, int64_t w) {
    const Tensor image = golden_image(which, h, w);
    return Hash64().add(image.raw(), image.bytes()).text();
  };
  CHECK(hash(0, 64, 96) == "0d4538d25029a289");
  CHECK(hash(1, 64, 96) == "9ace07a4cfb8e805");
  CHECK(Hash64().add(std::string_view("sextant: 17 bytes")).text() == "31f12dcd7cdb8452");
}

TEST_CASE("self-test: integers are the same on all instruction sets and threads") {
  const test::TemporaryFolder folder;
  for (const Activation a : {Activation::kReLU, Activation::kSiLU}) {
    const auto file = folder / "f.safetensors";
    save_with_proof(file, network(a));
    const Graph g = load_deploy(file);
    REQUIRE(g.proof.golden.size() > 20);
    for (const kernels::cpu::Isa isa : kernels::cpu::usable_isas()) {
      const kernels::cpu::ForcedIsa forced(isa);
      const SelfTest t = selftest(g, Device::kCpu);
      CHECK(t.tensors == std::ssize(g.proof.golden));
      CHECK(t.tensors + t.others == std::ssize(g.nodes));
      CHECK(t.height == 64);
    }
    const ThreadLimit alone(1);
    selftest(g, Device::kCpu);
  }
}

TEST_CASE("self-test: the first tensor that differs is named") {
  Graph g = network(Activation::kReLU);
  g.source = "f.st";
  CHECK_THAT(error_of([&] { selftest(g, Device::kCpu); }),
             Contains("f.st: has no golden integers; `sextant export --out`"));
  add_golden_integers(g);
  selftest(g, Device::kCpu);
  const std::string name = g.proof.golden[5].tensor;
  Graph changed = g;
  for (Node& n : changed.nodes)  // another bias, so that the integers behind it are others
    if (n.name == name && n.bias.defined()) n.bias.f32()[0] += 0.5f;
  REQUIRE(changed.find_node(name)->bias.defined());
  CHECK_THAT(error_of([&] { selftest(changed, Device::kCpu); }),
             Contains("f.st: tensor '" + name + "' has other integers") &&
                 Contains("the first of " + std::to_string(g.proof.golden.size()) + " tensors"));
  g.proof.golden.pop_back();
  CHECK_THAT(error_of([&] { selftest(g, Device::kCpu); }), Contains("f.st: golden integers of"));
  Graph fp32 = network(Activation::kReLU);
  for (TensorInfo& t : fp32.tensors) t.amax = 0;
  CHECK_THAT(error_of([&] { selftest(fp32, Device::kCpu); }), Contains("is not quantized"));
}

TEST_CASE("self-test: behind a layer in float nothing is compared") {
  Graph g = network(Activation::kReLU);
  add_golden_integers(g);
  const size_t all = g.proof.golden.size();
  Node& layer = g.nodes[static_cast<size_t>(
      g.producers()[static_cast<size_t>(g.find_tensor("c2.block.conv"))])];
  layer.precision = Precision::kFloat32;
  add_golden_integers(g);
  CHECK(g.proof.golden.size() < all - 1);
  for (const Proof::Golden& golden : g.proof.golden) CHECK(golden.tensor != layer.name);
  selftest(g, Device::kCpu);
}

TEST_CASE("a proof belongs to one version of its file") {
  const test::TemporaryFolder folder;
  const auto file = folder / "f.safetensors", other = folder / "g.safetensors";
  Graph g = network(Activation::kReLU);
  g.proof.calibration = {{"shapes", "0123456789abcdef", "max", 4}};
  save_with_proof(file, g);
  Graph loaded = load_deploy(file);
  CHECK(loaded.proof.calibration->images == 4);
  CHECK(loaded.proof.of == content_hash(loaded));

  Proof measured = loaded.proof;
  measured.measured = Proof::Measured{.data = "shapes",
                                      .data_hash = "0123456789abcdef",
                                      .precision = "int8",
                                      .image_size = 64,
                                      .map50 = 0.5,
                                      .map50_95 = 0.25,
                                      .confidence = 0.3,
                                      .f1 = 0.6,
                                      .class_confidence = {0.2, 0.4}};
  replace_proof(file, measured);
  loaded = load_deploy(file);
  CHECK(loaded.proof.measured->class_confidence == std::vector<double>{0.2, 0.4});
  CHECK(loaded.proof.golden.size() == measured.golden.size());

  // Written as it is, it keeps what is known; changed, only the integers are new.
  save_with_proof(other, loaded);
  CHECK(load_deploy(other).proof.measured.has_value());
  loaded.tensors[3].amax *= 1.5f;
  save_deploy(other, loaded);
  CHECK(load_deploy(other).proof.empty());
  save_with_proof(other, loaded);
  Graph again = load_deploy(other);
  CHECK(!again.proof.measured);
  CHECK(!again.proof.calibration);
  selftest(again, Device::kCpu);

  // A file that something else changed.
  SafeTensors stored = load_safetensors(file);
  stored.tensors[0].second.data<int8_t>()[0] ^= 1;
  save_safetensors(other, stored);
  again = load_deploy(other);
  CHECK(again.proof.stale);
  CHECK(again.proof.empty());
  CHECK_THAT(error_of([&] { selftest(again, Device::kCpu); }),
             Contains("was changed after its golden integers were written"));
}

TEST_CASE("damaged proofs are refused by name, later ones passed over") {
  CHECK_THAT(proof_error("{"), Contains("file"));
  CHECK_THAT(proof_error("[]"), Contains("file"));
  CHECK_THAT(proof_error(R"({"version": 1})"), Contains("file: 'of' is missing"));
  CHECK_THAT(proof_error(R"({"version": 1, "of": "12"})"),
             Contains("file: 'of' must be 16 hexadecimal digits"));
  const std::string start = R"({"version": 1, "of": "0123456789abcdef", )";
  CHECK_THAT(proof_error(start + R"("golden": [["a", "b"]]})"), Contains("'golden'"));
  CHECK_THAT(proof_error(start + R"("golden": 3})"), Contains("'golden'"));
  CHECK_THAT(proof_error(start + R"("gold": 3})"), Contains("'gold'"));
  CHECK_THAT(proof_error(start + R"("measured": {"map50": 2}})"), Contains("measured"));
  CHECK_THAT(proof_error(start + R"("measured": {"data": "d", "data_hash": "", "precision": "int8",
                                                  "class_confidence": [0.5, -1]}})"),
             Contains("'measured.class_confidence'"));
  CHECK(parse_proof(R"({"version": 2, "of": 7})", "file").empty());
}
