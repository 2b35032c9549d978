// SPDX-License-Identifier: Apache-2.0
// Checkpoints from other programs, and modified ones.
#include <cmath>

#include "apps/model_files/checkpoint.h"
#include "apps/model_files/import.h"
#include "core/allocator.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;
using test::error_of;

namespace {

const Json kTiny = {{"type", "yolov6n"}, {"width_multiple", 0.0625}, {"depth_multiple", 0.1}};

CheckpointInfo info_of(const std::vector<std::string>& names) {
  CheckpointInfo info;
  info.model = kTiny;
  info.class_names = names;
  info.image_size = 64;
  return info;
}

std::unique_ptr<Yolov6> tiny(int64_t classes, uint64_t seed) {
  return std::make_unique<Yolov6>(read_yolov6_config(ConfigReader(kTiny, "tiny"), classes), seed);
}

SafeTensors checkpoint(const std::vector<std::string>& names, uint64_t seed = 1) {
  SafeTensors state;
  const auto model = tiny(std::ssize(names), seed);
  // Class predictions start as zeros; here each class is to differ.
  for (const auto& s : model->state())
    if (s.name.find("cls_preds") != std::string::npos)
      s.tensor.copy_from(test::random_tensor(s.tensor.shape(), seed + 1));
  model->save_state(state);
  SafeTensors file = with_metadata(std::move(state), info_of(names));
  file.path = "c.safetensors";
  return file;
}

void set_meta(SafeTensors& file, const char* key, const Json& value) {
  Json meta = parse_json(file.meta("sextant"), "meta");
  meta[key] = value;
  file.metadata["sextant"] = json_text(meta);
}

double largest_difference(const Yolov6& a, const Yolov6& b, const std::string& part) {
  double worst = 0;
  const auto x = a.state(), y = b.state();
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i].name.find(part) != std::string::npos && x[i].tensor.dtype() == DType::kF32)
      worst = std::max(worst, test::max_difference(x[i].tensor, y[i].tensor));
  return worst;
}

}  // namespace

TEST_CASE("checkpoint: impossible values are refused, naming the tensor") {
  const std::string name = "backbone.stem.rbr_dense.bn.running_var";
  for (const float bad : {NAN, INFINITY, -1.0f, 1e20f}) {
    SafeTensors file = checkpoint({"a", "b"});
    file.at(name).f32()[1] = bad;
    CHECK_THAT(error_of([&] { load_checkpoint(file); }),
               Contains("c.safetensors: tensor '" + name + "' holds"));
    const auto model = tiny(2, 2);
    CHECK_THAT(error_of([&] { initialise_from(file, *model); }), Contains(name));
    // Nor is such a file written.
    const test::TemporaryFolder folder;
    CHECK_THAT(error_of([&] {
                 save_checkpoint(folder / "x", file, info_of({"a", "b"}));
               }),
               Contains(name));
    CHECK_FALSE(std::filesystem::exists(folder / "x"));
  }
}

TEST_CASE("checkpoint: a model larger than its file is refused before it is created") {
  for (const auto& [key, value] : {std::pair<const char*, Json>{"width_multiple", 4.0},
                                   {"depth_multiple", 4.0},
                                   {"backbone_repeats", Json::array({1, 8000, 8000, 8000, 8000})},
                                   {"backbone_channels", Json::array({8192, 8192, 64, 64, 64})}}) {
    SafeTensors file = checkpoint({"a", "b"});
    file.tensors.clear();
    Json model = kTiny;
    model[key] = value;
    set_meta(file, "model", model);
    host_reset_peak();
    const int64_t before = host_stats().peak_bytes;
    CHECK_THAT(error_of([&] { load_checkpoint(file); }),
               Contains("c.safetensors: 'model' in its metadata describes a larger model"));
    CHECK(host_stats().peak_bytes - before < (int64_t{32} << 20));
  }
  CHECK(load_checkpoint(checkpoint({"a", "b"})).model != nullptr);
}

TEST_CASE("checkpoint: malformed metadata is refused") {
  SafeTensors file = checkpoint({"a", "b"});
  set_meta(file, "format", 3);
  CHECK_THAT(error_of([&] { load_checkpoint(file); }), Contains("c.safetensors: is neither"));
  file = checkpoint({"a", "b"});
  set_meta(file, "class_names", {"a", "a"});
  CHECK_THAT(error_of([&] { load_checkpoint(file); }), Contains("duplicate class name 'a'"));
  file = checkpoint({"a", "b"});
  set_meta(file, "image_size", 64.5);
  CHECK_THAT(error_of([&] { load_checkpoint(file); }), Contains("'image_size' is 64.5"));
  file.metadata["sextant"] = std::string(100000, '[');
  CHECK_THAT(error_of([&] { load_checkpoint(file); }),
             Contains("c.safetensors") && Contains("nested"));
  CHECK_THAT(error_of([&] { load_model_file("/dev/null"); }), Contains("/dev/null"));
}

TEST_CASE("checkpoint: initialization matches class predictions by name") {
  const SafeTensors file = checkpoint({"cat", "dog", "cow"});
  const auto original = load_checkpoint(file);
  const auto straight = tiny(3, 7), turned = tiny(3, 7), other = tiny(3, 7), fresh = tiny(3, 7);
  CHECK(initialise_from(file, *straight, {"cat", "dog", "cow"}) == 0);
  CHECK(largest_difference(*straight, *original.model, "") == 0);
  CHECK(initialise_from(file, *turned, {"cow", "cat", "dog"}) == 0);
  CHECK(largest_difference(*turned, *original.model, "backbone") == 0);
  CHECK(largest_difference(*turned, *original.model, "cls_preds") > 0);
  // Turned back it is the original: row i goes to the number beside it.
  reorder_classes(*turned, {2, 0, 1});
  CHECK(largest_difference(*turned, *original.model, "") == 0);
  // Other classes: their predictions start anew, also where they are as many.
  CHECK(initialise_from(file, *other, {"cat", "dog", "fox"}) == 6);
  CHECK(largest_difference(*other, *fresh, "cls_preds") == 0);
  // A model that knows only numbers goes by number.
  CHECK(initialise_from(file, *other, {"0", "1", "2"}) == 0);
}

TEST_CASE("import: writes a readable file or none") {
  const test::TemporaryFolder folder;
  const auto from = folder / "theirs.safetensors", to = folder / "ours.safetensors";
  SafeTensors state;
  Yolov6(read_yolov6_config(ConfigReader(Json::object(), "model"), 2), 1).save_state(state);
  const auto import_state = [&](const SafeTensors& file, std::vector<std::string> names = {}) {
    save_safetensors(from, file);
    std::filesystem::remove(to);
    return error_of([&] { import_checkpoint(from, to, {64, std::move(names)}); });
  };
  CHECK(import_state(state) == "no error");
  // Counters, which nothing depends on, may be left out.
  SafeTensors without;
  for (const auto& [name, t] : state.tensors)
    if (!name.ends_with("num_batches_tracked")) without.add(name, t);
  CHECK(without.tensors.size() < state.tensors.size());
  CHECK(import_state(without) == "no error");
  CHECK(load_checkpoint(load_safetensors(to)).model != nullptr);

  SafeTensors more = state;
  more.add("aux.weight", Tensor::zeros(Shape{2}));
  CHECK_THAT(import_state(more), Contains("theirs.safetensors: tensor 'aux.weight'"));
  CHECK_FALSE(std::filesystem::exists(to));
  SafeTensors bad = state;
  bad.tensors[0].second = bad.tensors[0].second.clone();
  bad.tensors[0].second.f32()[0] = NAN;
  CHECK_THAT(import_state(bad), Contains("theirs.safetensors: tensor") && Contains("nan"));
  CHECK_THAT(import_state(state, {"a", "a"}), Contains("--names: duplicate class name 'a'"));
  CHECK_THAT(error_of([&] { import_checkpoint(from, to, {-32, {}}); }), Contains("image size -32"));
  CHECK_FALSE(std::filesystem::exists(to));
}
