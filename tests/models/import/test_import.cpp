// SPDX-License-Identifier: Apache-2.0
// Official checkpoints: the walk through the modules, the model they are recognised as, mutated
// files, and what the project's own checkpoints predict.
#include <array>

#include "core/config.h"
#include "core/file.h"
#include "core/rng.h"
#include "models/import/import_pt.h"
#include "models/import/official_form.h"
#include "models/import/recognise.h"
#include "models/yolov6.h"
#include "support/fixtures.h"
#include "support/pickles.h"

namespace {

using namespace sextant;
using namespace sextant::test::pickles;
using test::contains;
namespace fs = std::filesystem;

std::string zeros(size_t n) { return std::string(n, '\0'); }

// A model of a convolution and a batch-norm in a list, with what the trainer stores beside it.
std::string small_model(const Pairs& rest) {
  const std::string conv = module({"torch.nn.modules.conv",
                                   "Conv2d",
                                   {{"weight", parameter({.storage = "HalfStorage",
                                                          .key = "0",
                                                          .count = 8,
                                                          .size = {2, 1, 2, 2},
                                                          .stride = {4, 4, 2, 1}})},
                                    {"bias", "N"}},
                                   {},
                                   {},
                                   {{"kernel_size", integers({2, 2})}}});
  const std::string bn =
      module({"torch.nn.modules.batchnorm",
              "BatchNorm2d",
              {{"weight", parameter({.key = "1", .count = 2, .size = {2}, .stride = {1}})}},
              {{"seen", tensor({.storage = "LongStorage", .key = "2", .count = 1})},
               {"hidden", tensor({.key = "1", .count = 2, .size = {2}, .stride = {1}})}},
              {},
              {{"_non_persistent_buffers_set",
                global("__builtin__", "set") + "](" + text("hidden") + "e\x85R"}}});
  return module(
      {"yolov6.models.yolo",
       "Model",
       {},
       {},
       {{"a", conv},
        {"backbone",
         module({"torch.nn.modules.container",
                 "Sequential",
                 {},
                 {},
                 {{"stem", module({"torch.nn.modules.container", "Sequential", {}, {}, {}, {}})}},
                 {}})},
        {"list", module({"torch.nn.modules.container", "ModuleList", {}, {}, {{"0", bn}}, {}})}},
       rest});
}

std::vector<uint8_t> small_file(const std::string& pickle) {
  return file(pickle,
              {std::string("\x00\x3c", 2) + zeros(14), zeros(8), std::string("\x07") + zeros(7)});
}

std::string import_error(const std::string& pickle) {
  return test::error_of([&] { import_torch(small_file(pickle), "x.pt"); });
}

}  // namespace

TEST_CASE("modules are walked in the order of their state dict") {
  const std::string names = "](" + text("one") + text("two") + "e";
  const std::string model = small_model({{"names", names}});
  const ImportedWeights w = import_torch(
      small_file(document(dict({{"model", "N"}, {"ema", model}, {"epoch", integer(7)}}))), "x.pt");
  REQUIRE(w.state.tensors.size() == 3);
  CHECK(w.state.tensors[0].first == "a.weight");
  CHECK(w.state.tensors[1].first == "list.0.weight");
  CHECK(w.state.tensors[2].first == "list.0.seen");
  CHECK(w.state.at("a.weight").dtype() == DType::kF32);
  CHECK(w.state.at("a.weight").shape() == Shape{2, 1, 2, 2});
  CHECK(w.state.at("a.weight").f32()[0] == 1.0f);
  CHECK(w.state.at("list.0.seen").dtype() == DType::kI64);
  CHECK(*w.state.at("list.0.seen").data<int64_t>() == 7);
  CHECK(w.class_names == std::vector<std::string>{"one", "two"});
  CHECK(w.block == "torch.nn.modules.container.Sequential");
  CHECK(w.epoch == 7);
  // The moving average comes first, a module or a state dict may stand alone.
  CHECK(import_torch(small_file(document(model)), "x.pt").state.tensors.size() == 3);
  const std::string one =
      ordered_dict({{"x", tensor({.key = "1", .count = 2, .size = {2}, .stride = {1}})}});
  CHECK(import_torch(small_file(document(one)), "x.pt").state.tensors[0].first == "x");
  CHECK(import_torch(small_file(document(dict({{"model", model}, {"ema", one}}))), "x.pt")
            .state.tensors.size() == 1);
}

TEST_CASE("a malformed module tree is refused, naming the place") {
  const auto holds = [](const Pairs& modules) {
    return document(module({"yolov6.models.yolo", "Model", {}, {}, modules, {}}));
  };
  const std::string t = tensor({.key = "1", .count = 2, .size = {2}, .stride = {1}});
  CHECK(contains(import_error(holds({{"a", integer(1)}})), "x.pt: 'a.' is not a module"));
  CHECK(contains(import_error(holds({{"a\nb", integer(1)}})), "the name 'a\\nb'"));
  CHECK(contains(import_error(holds({{std::string(300, 'a'), integer(1)}})),
                 "has a member with the name"));
  CHECK(contains(import_error(document(dict({{"x", integer(1)}}))), "'x' is not a tensor"));
  CHECK(contains(import_error(document(dict({{"x", t}, {"x", t}}))), "duplicate tensor 'x'"));
  const std::string escape = "](" + text("\x1b[2J") + "e";
  CHECK(contains(import_error(document(small_model({{"names", escape}}))), "is not a class name"));
  CHECK(contains(import_error(document("}")), "holds no tensors"));
  CHECK(contains(import_error(document("N")), "is not a module"));
  CHECK(contains(import_error(document(global("yolov6.models.yolo", "Model") + ")\x81N"
                                                                               "b")),
                 "no tensors"));
  CHECK(contains(
      import_error(document(global("torch.nn.modules.container", "X") + text("rm") + "\x85R")),
      "no tensors"));
  CHECK(contains(import_error(document(global("torch.hub", "load") + ")R")), "'torch.hub.load'"));
  // A module that is its own child, under two names: 2^32 modules if it were followed.
  const std::string self = global("yolov6.models.yolo", "Model") + ")\x81q\x01" +
                           dict({{"_modules", dict({{"a", "h\x01"}, {"b", "h\x01"}})}}) + "b";
  CHECK(contains(import_error(document(self)), "too deep"));
  // Without the cycle: each level holds the one below twice.
  std::string levels =
      "(" + module({"yolov6.models.yolo", "Model", {}, {}, {}, {}}) + "q" + number(0, 1);
  for (uint64_t i = 1; i < 30; ++i) {
    const std::string child = "h" + number(i - 1, 1);
    levels += module({"yolov6.models.yolo", "Model", {}, {}, {{"a", child}, {"b", child}}, {}}) +
              "q" + number(i, 1);
  }
  const std::string last = "h" + number(29, 1);
  CHECK(contains(
      import_error(document("}(" + text("rest") + levels + "t" + text("model") + last + "u")),
      "more than any model does"));
}

// Every mutation of a small file ends as tensors or as an Error, with memory bounded by the file.
TEST_CASE("mutated files give tensors or an Error, nothing else") {
  const std::string names = "](" + text("one") + text("two") + "e";
  const std::string pickle =
      document(dict({{"model", small_model({{"names", names}})}, {"epoch", integer(7)}}));
  const std::vector<uint8_t> whole = small_file(pickle);
  Rng rng(20240607);
  const auto random = [&](size_t n) {
    return static_cast<size_t>(rng.below(static_cast<int64_t>(n)));
  };
  constexpr std::array<uint32_t, 8> kLengths{0,          1,          0x7f,       0x80,
                                             0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
  const auto mutate = [&](auto& b) {
    const size_t edits = 1 + random(3);
    for (size_t k = 0; k < edits && !b.empty(); ++k) {
      const size_t at = random(b.size());
      switch (random(6)) {
        case 0:
          b[at] = static_cast<uint8_t>(b[at] ^ (1u << random(8)));
          break;
        case 1:
          b[at] = static_cast<uint8_t>(random(256));
          break;
        case 2:
          for (size_t i = 0; i < 4 && at + i < b.size(); ++i)
            b[at + i] = static_cast<uint8_t>(kLengths[random(kLengths.size())] >> (8 * i));
          break;
        case 3:
          b.resize(at);
          break;
        case 4: {  // a run of bytes repeated elsewhere
          const size_t n = std::min(b.size() - at, 1 + random(40)), to = random(b.size());
          const auto run = std::vector<uint8_t>(b.begin() + static_cast<std::ptrdiff_t>(at),
                                                b.begin() + static_cast<std::ptrdiff_t>(at + n));
          b.insert(b.begin() + static_cast<std::ptrdiff_t>(to), run.begin(), run.end());
          break;
        }
        default:
          b.erase(b.begin() + static_cast<std::ptrdiff_t>(at),
                  b.begin() + static_cast<std::ptrdiff_t>(std::min(b.size(), at + 1 + random(8))));
      }
    }
  };
  int accepted = 0, refused = 0;
  const auto run = [&](const std::vector<uint8_t>& b) {
    try {
      const ImportedWeights w = import_torch(b, "x.pt");
      int64_t bytes_out = 0;
      for (const auto& [name, t] : w.state.tensors) bytes_out += t.bytes();
      REQUIRE(bytes_out <= 4 * static_cast<int64_t>(b.size()));
      ++accepted;
    } catch (const Error& e) {
      REQUIRE(std::string_view(e.what()).starts_with("x.pt: "));
      REQUIRE(std::string_view(e.what()).find('\n') == std::string_view::npos);
      ++refused;
    }
  };
  for (int i = 0; i < 10000; ++i) {  // the archive around the pickle
    std::vector<uint8_t> b = whole;
    mutate(b);
    run(b);
  }
  for (int i = 0; i < 20000; ++i) {  // the pickle, in an archive that fits it
    std::string p = pickle;
    mutate(p);
    run(small_file(p));
  }
  CHECK(accepted > 100);
  CHECK(refused > 10000);
}

namespace {

std::vector<std::pair<std::string, Shape>> shapes_of(const Json& list) {
  std::vector<std::pair<std::string, Shape>> out;
  for (const Json& e : list)
    out.emplace_back(e.at("name").get<std::string>(),
                     Shape(std::span<const int64_t>(e.at("shape").get<std::vector<int64_t>>())));
  return out;
}

}  // namespace

TEST_CASE("each official state dict is recognised as its own kind") {
  for (const fs::path& file : test::shared_files("fixtures/models", ".json")) {
    if (file.stem() == "summary") continue;
    const Json j = load_json(file);
    INFO(file.string());
    const std::string mode = j.at("training_mode");
    // The name is the kind, then the training mode or the head's form where it is not the usual
    // one.
    std::string type = file.stem();
    const auto drop = [&](const std::string& ending) {
      const bool there = type.ends_with(ending);
      if (there) type.resize(type.size() - ending.size());
      return there;
    };
    drop("_" + mode);
    const bool fuse_ab = drop("_fuseab"), distill_ns = drop("_distill_ns");
    const RecognisedModel r = recognise_yolov6(shapes_of(j.at("state_dict")), "x.pt");
    CHECK(r.model.at("type") == type);
    CHECK(r.model.at("training_mode") == mode);
    CHECK(r.model.at("use_dfl") == j.at("head").at("use_dfl"));
    CHECK(r.model.at("reg_max") == j.at("head").at("reg_max"));
    CHECK(r.model.value("fuse_ab", false) == fuse_ab);
    CHECK(r.model.value("distill_ns", false) == distill_ns);
    CHECK(r.num_classes == j.at("num_classes").get<int64_t>());
    CHECK(Json(r.strides) == j.at("strides"));
    // The class of the stem's block tells apart what names cannot.
    const auto mode_with = [&](const char* block) {
      return recognise_yolov6(shapes_of(j.at("state_dict")), "x.pt", block)
          .model.at("training_mode")
          .get<std::string>();
    };
    CHECK(mode_with("yolov6.layers.common.QARepVGGBlock") ==
          (mode == "qarepvggv2" ? "qarepvgg" : mode));
    CHECK(mode_with("yolov6.layers.common.ConvBNReLU") ==
          (mode == "conv_silu" ? "conv_relu" : mode));
    // Fused for deployment: no longer what training starts from, so refused where names show it.
    if (mode == "repvgg")
      CHECK(contains(
          test::error_of([&] { recognise_yolov6(shapes_of(j.at("state_dict_deploy")), "x.pt"); }),
          "is fused for deployment"));
  }
}

TEST_CASE("each form of a YOLOv6Lite's state dict is recognised") {
  for (const fs::path& file : test::shared_files("fixtures_lite/models", ".json")) {
    if (file.stem() == "summary") continue;
    INFO(file.string());
    const Json j = load_json(file);
    for (const char* form : {"state_dict", "state_dict_deploy", "state_dict_fused"}) {
      const RecognisedModel r = recognise_yolov6(shapes_of(j.at(form)), "x.pt");
      CHECK(r.model.at("type") == file.stem().string());
      CHECK(r.num_classes == j.at("num_classes").get<int64_t>());
      CHECK(Json(r.strides) == j.at("strides"));
    }
    auto shapes = shapes_of(j.at("state_dict_fused"));
    std::erase_if(shapes, [](const auto& s) { return s.first.starts_with("detect.cls_preds.3."); });
    CHECK(contains(test::error_of([&] { recognise_yolov6(shapes, "x.pt"); }),
                   "x.pt: is not a YOLOv6Lite of the official configs"));
  }
}

TEST_CASE("absorbed batch-norms are added so that a model predicts the same") {
  const Yolov6Config config = read_yolov6_config(ConfigReader({{"type", "yolov6lite_s"}}, "m"), 3);
  Yolov6 model(config, 5);
  SafeTensors state;
  state.path = "f.safetensors";
  model.save_state(state);
  // Biases behind the convolutions, as a fused file has them.
  SafeTensors fused;
  fused.path = state.path;
  Rng rng(3);
  for (const auto& [name, t] : state.tensors) {
    if (name.find(".bn") != std::string::npos) continue;
    fused.add(name, t);
    if (name.ends_with(".block.conv.weight")) {
      const Tensor bias(Shape{t.dim(0)});
      for (float& v : bias.span<float>()) v = static_cast<float>(rng.uniform(-1, 1));
      fused.add(name.substr(0, name.size() - 6) + "bias", bias);
    }
  }
  SafeTensors whole = fused;
  add_absorbed_norms(model, whole);
  for (const auto& [name, t] : state.tensors)
    if (name.ends_with("num_batches_tracked")) whole.add(name, t);
  model.load_state(whole);
  for (const auto& [name, t] : fused.tensors) {
    if (!name.ends_with(".block.conv.bias")) continue;
    const std::string norm = name.substr(0, name.size() - 9) + "bn";
    CHECK(test::max_difference(whole.at(norm + ".bias"), t) == 0);
    const float variance = whole.at(norm + ".running_var").f32()[0];
    CHECK(variance + kBatchNormEps == Approx(1.0f).epsilon(1e-6));
  }
  // A file with batch-norms stays as it is.
  SafeTensors same = state;
  add_absorbed_norms(model, same);
  CHECK(same.tensors.size() == state.tensors.size());
}

TEST_CASE("a file that is not a YOLOv6 is refused, naming the missing part") {
  const auto error_of = [](const std::vector<std::pair<std::string, Shape>>& s) {
    return test::error_of([&] { recognise_yolov6(s, "x.pt"); });
  };
  CHECK(contains(error_of({}), "x.pt: has no stem"));
  std::vector<std::pair<std::string, Shape>> s{
      {"backbone.stem.rbr_1x1.conv.weight", {16, 3, 1, 1}}};
  CHECK(contains(error_of(s), "no tensor 'backbone.stem.rbr_dense.conv.weight'"));
  s.emplace_back("backbone.stem.rbr_dense.conv.weight", Shape{16});
  CHECK(contains(error_of(s), "must have four dimensions"));
  s.back().second = Shape{20, 3, 3, 3};
  CHECK(contains(error_of(s), "20 channels in the stem, 0 levels"));
}

TEST_CASE("an official checkpoint predicts what the official implementation predicted") {
  for (const fs::path& file : test::shared_files("checkpoints", ".pt")) {
    INFO(file.string());
    const ImportedWeights w = import_weights(file);
    std::vector<std::pair<std::string, Shape>> shapes;
    for (const auto& [name, t] : w.state.tensors) shapes.emplace_back(name, t.shape());
    const RecognisedModel r = recognise_yolov6(shapes, file.string(), w.block);
    CHECK(r.num_classes == static_cast<int64_t>(w.class_names.size()));
    fs::path expected = file;
    expected.replace_extension(".expected.safetensors");
    if (!fs::exists(expected) || r.model.at("training_mode") != "repvgg") continue;
    const SafeTensors e = load_safetensors(expected);
    Yolov6 model(read_yolov6_config(ConfigReader(r.model, "model"), r.num_classes), 0);
    model.load_state(w.state);
    model.train(false);
    const Tensor bytes_in = nchw_to_nhwc(e.at("input.image"));
    Tensor image(bytes_in.shape());
    for (int64_t i = 0; i < image.numel(); ++i)
      image.f32()[i] = static_cast<float>(bytes_in.data<uint8_t>()[i]) / 255.0f;
    const Variable out = model.predict(Variable(image));
    const double difference = test::relative_difference(out.data(), e.at("output.pred"));
    INFO("relative difference " << difference);
    CHECK(difference < 1e-5);
  }
}
