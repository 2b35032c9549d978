// SPDX-License-Identifier: Apache-2.0
#include "fuzz/samples.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "apps/model_files/checkpoint.h"
#include "apps/training/run_folder.h"
#include "apps/training/train_config.h"
#include "core/file.h"
#include "data/image/image.h"
#include "deploy/graph/file.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/trace.h"
#include "deploy/onnx/export.h"
#include "fuzz/readers.h"
#include "layers/functional.h"
#include "layers/stages.h"
#include "models/import/torch_file.h"
#include "quant/ptq/ptq.h"
#include "quant/ranges/range_file.h"

namespace sextant::fuzz {
namespace {

namespace fs = std::filesystem;

Json tiny_config() {
  return {{"epochs", 2},
          {"image_size", 64},
          {"data", {{"path", "set"}}},
          {"model", {{"type", "yolov6n"}, {"width_multiple", 0.0625}, {"depth_multiple", 0.1}}}};
}

const apps::CheckpointInfo& info() {
  static const apps::CheckpointInfo info{tiny_config().at("model"), {"disc", "block"}, 64};
  return info;
}

Yolov6& model() {
  static Yolov6 model(read_yolov6_config(ConfigReader(info().model, "sample", "model."), 2), 1);
  return model;
}

// Some kinds of nodes in a file small enough for a fuzzer to cover.
class SmallNet : public Module {
 public:
  SmallNet() {
    Rng rng(1);
    stem_ =
        register_module("stem", std::make_shared<ConvBNAct>(3, 4, 3, 2, Activation::kReLU, rng));
    pools_ = register_module("pools", std::make_shared<SimSPPF>(4, 4, Activation::kSiLU, rng));
    up_ = register_module("up", std::make_shared<Transpose>(4, 4, rng));
    last_ = register_module("last", std::make_shared<Conv2d>(8, 3, 1, ConvParams{}, true, rng));
    train(false);
  }
  Variable predict(const Variable& x) const {
    const Variable a = stem_->forward(x);
    const Variable b = add(pools_->forward(a), a, Variable(Tensor::full(Shape{1}, 0.5f)));
    return last_->forward(concat({up_->forward(b), upsample_nearest(slice_channels(b, 0, 4), 2)}));
  }

 private:
  std::shared_ptr<ConvBNAct> stem_;
  std::shared_ptr<SimSPPF> pools_;
  std::shared_ptr<Transpose> up_;
  std::shared_ptr<Conv2d> last_;
};

// What `write` writes, as it is read back.
template <class F>
SafeTensors through_file(const F& write) {
  const fs::path file =
      fs::temp_directory_path() / fmt::format("sextant-fuzz-sample-{}", ::getpid());
  write(file);
  SafeTensors read = load_safetensors(file);
  fs::remove(file);
  return read;
}

Json run_state() {
  return {{"format", "sextant-run"},
          {"version", 1},
          {"epoch", 1},
          {"best_map50", 0.5},
          {"best_map50_95", 0.25},
          {"best_epoch", 1},
          {"config", sample_run_config()},
          {"rows", {{1, 0.01, 1, 2, 3, 0, 0.5, 0.25, 1.5, 0}}}};
}

constexpr const char* kQatConfig =
    R"({"epochs": 2, "batch": 4, "model": "m.safetensors", "start": "s.safetensors", "data": {"path": "set"},
 "calibration": {"images": 8, "method": "percentile", "percentile": 99.9}, "float_layers": ["detect.*"],
 "learn_scales": true, "distill": {"cwd_weight": 10, "features": ["a"]}, "loss": {"iou": "siou"}})";

constexpr const char* kLadderConfig =
    R"({"model": "m.safetensors", "data": {"path": "set"}, "image_size": 64, "rungs": ["fp32", "ptq", "qat"],
 "ptq": {"images": 8}, "ptq_plus": {"rounding": "adaround"}, "partial": {"max_drop": 0.3},
 "qat": {"epochs": 2, "batch": 4}, "bench": {"image_size": 64, "runs": 1}, "verify_images": 1})";

constexpr const char* kCoco =
    R"({"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": null},
 {"id": "x", "file_name": "b.png"}], "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20], "area": 5, "iscrowd": 0},
 {"id": 2, "image_id": "x", "category_id": 7, "segmentation": [[1, 1, 9, 1, 9, 9]]},
 {"id": 3, "image_id": 1, "category_id": 7, "iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [50, 20, 3002]}},
 {"id": 4, "image_id": 1, "category_id": 7, "segmentation": {"size": [48, 64], "counts": "52d2"}}]})";

constexpr const char* kVoc = R"(<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "b">]>
<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size>
<object><name>c&amp;t &#65;</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2.5</ymin>
<xmax>30</xmax><ymax>20</ymax></bndbox></object><!-- x --><![CDATA[<y>]]></annotation>)";

constexpr const char* kYaml =
    "path: .\ntrain: ../train/images\nval: [a, b]\nnc: 2\nnames: &n {0: cat, 1: 'dog'}\nx: *n\n";

deploy::Graph small_graph() {
  const SmallNet net;
  deploy::NamedVariables named;
  for (const ParameterRef& p : net.parameters()) named.emplace_back(p.name, p.variable);
  return deploy::fuse(deploy::trace_model([&](const Variable& x) { return net.predict(x); }, named,
                                          {1, 32, 32, 3}));
}

deploy::Graph quantized(const deploy::Graph& graph) {
  bool given = false;
  const auto images = [&]() -> Tensor {
    if (given) return {};
    given = true;
    const Tensor t(Shape{1, 64, 64, 3}, DType::kU8);
    for (int64_t i = 0; i < t.numel(); ++i)
      t.data<uint8_t>()[i] = static_cast<uint8_t>(i * 37 % 251);
    return t;
  };
  return quant::quantize(graph, images, {});
}

}  // namespace

const SafeTensors& sample_checkpoint() {
  static const SafeTensors file =
      through_file([](const fs::path& to) { apps::save_checkpoint(to, model(), info()); });
  return file;
}

const deploy::Graph& sample_quantized_graph() {
  static const deploy::Graph graph = quantized(apps::to_graph(model(), info()));
  return graph;
}

const SafeTensors& sample_deploy_file() {
  static const SafeTensors file =
      through_file([](const fs::path& to) { deploy::save_deploy(to, sample_quantized_graph()); });
  return file;
}

const Json& sample_run_config() {
  static const Json config = apps::parse_train_config(tiny_config(), "sample", "").json();
  return config;
}

namespace {

// Files of the reference data that are small enough, by their extension.
void copy_shared(const fs::path& folder) {
  constexpr uintmax_t kLargest = 1 << 16;  // as `./run fuzz` cuts them
  const std::map<std::string, std::string> readers{{".onnx", "onnx"},  {".jpg", "image"},
                                                   {".png", "image"},  {".tif", "image"},
                                                   {".webp", "image"}, {".pt", "pt"}};
  const char* shared = std::getenv("SEXTANT_SHARED");
  std::error_code ec;
  const fs::path cases = fs::path(shared ? shared : "../shared") / "cases";
  int number = 0;
  for (const auto& entry : fs::recursive_directory_iterator(cases, ec)) {
    const auto reader = readers.find(entry.path().extension().string());
    if (reader == readers.end() || !entry.is_regular_file() || entry.file_size() > kLargest)
      continue;
    const std::string name = fmt::format("shared{}{}", number++, reader->first);
    write_atomically(folder / reader->second / name, read_text(entry.path()));
  }
}

}  // namespace

void write_seeds(const std::string& folder) {
  copy_shared(folder);
  const auto write = [&](const char* reader, const char* name, std::string_view bytes) {
    write_atomically(fs::path(folder) / reader / name, bytes);
  };
  const auto copy = [&](const char* reader, const fs::path& file) {
    if (fs::is_regular_file(file)) write(reader, file.filename().c_str(), read_text(file));
  };
  const fs::path made = fs::path(folder) / "made";
  SafeTensors small;
  small.metadata["note"] = "x";
  small.add("a", Tensor::zeros(Shape{2, 3}));
  small.add("b", Tensor::zeros(Shape{}, DType::kI64));
  save_safetensors(made / "small.safetensors", small);
  copy("safetensors", made / "small.safetensors");
  write("deploy", "quantized.json", sample_deploy_file().meta("sextant"));
  write("checkpoint", "tiny.json", sample_checkpoint().meta("sextant"));
  save_torch_state_dict(made / "state.pt", small);
  copy("pt", made / "state.pt");
  deploy::OnnxOptions onnx;
  onnx.height = onnx.width = 64;
  deploy::save_onnx(made / "float.onnx", small_graph(), onnx);
  copy("onnx", made / "float.onnx");
  onnx.precision = deploy::OnnxPrecision::kInt8;
  deploy::save_onnx(made / "int8.onnx", quantized(small_graph()), onnx);
  copy("onnx", made / "int8.onnx");
  const SafeTensors operators =
      load_safetensors(fs::path(SEXTANT_SOURCE_DIR) / "tests/fixtures/onnx/operators.safetensors");
  for (const auto& [name, model] : operators.tensors)
    if (name.ends_with(".model"))
      write("onnx", (name + ".onnx").c_str(),
            {reinterpret_cast<const char*>(model.data<uint8_t>()),
             static_cast<size_t>(model.numel())});
  write("train_config", "tiny.json", json_text(tiny_config()));
  write("train_config", "whole.json", json_text(sample_run_config(), 1));
  write("qat_config", "qat.json", kQatConfig);
  write("ladder_config", "ladder.json", kLadderConfig);
  write("run_state", "state.json", json_text(run_state()));
  write("yaml", "data.yaml", kYaml);
  write("labels", "a.txt", "0 0.5 0.5 0.25 0.5\r\n1 .1 .1 .4 .1 .4 +6e-1\nx y\n\n7 nan 1 1 1\n");
  write("coco", "instances.json", kCoco);
  write("voc", "a.xml", kVoc);
  data::save_png(made / "a.png", data::make_image(9, 7, 100));
  copy("image", made / "a.png");
  data::save_jpeg(made / "a.jpg", data::make_image(9, 7, 100));
  copy("image", made / "a.jpg");
  write("ranges", "ranges.json", json_text(quant::ranges_to_json(sample_quantized_graph())));
}

}  // namespace sextant::fuzz
