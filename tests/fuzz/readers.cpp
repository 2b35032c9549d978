// SPDX-License-Identifier: Apache-2.0
#include "fuzz/readers.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "apps/model_files/checkpoint.h"
#include "apps/quantizing/ladder.h"
#include "apps/quantizing/qat_config.h"
#include "apps/training/run_folder.h"
#include "apps/training/train_config.h"
#include "data/dataset/boxes.h"
#include "data/dataset/description.h"
#include "data/dataset/voc.h"
#include "data/image/image.h"
#include "deploy/graph/file.h"
#include "deploy/onnx/import.h"
#include "fuzz/samples.h"
#include "models/import/import_pt.h"
#include "models/import/recognise.h"
#include "quant/ranges/range_file.h"

namespace sextant::fuzz {
namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const uint8_t>;

constexpr const char* kName = "input";

std::string text(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

// A folder of this process in memory, removed at its end.
const fs::path& scratch() {
  struct Folder {
    fs::path path = fs::temp_directory_path() / fmt::format("sextant-fuzz-{}", ::getpid());
    Folder() { fs::create_directories(path / "images" / "train"); }
    ~Folder() {
      std::error_code ec;
      fs::remove_all(path, ec);
    }
  };
  static const Folder folder;
  return folder.path;
}

void read_safetensors(Bytes bytes) { parse_safetensors(bytes, kName); }

// The metadata of a file whose tensors are those of a sample.
SafeTensors with_text(const SafeTensors& sample, Bytes bytes) {
  SafeTensors file = sample;
  file.path = kName;
  file.metadata["sextant"] = text(bytes);
  return file;
}
void read_deploy(Bytes bytes) { deploy::load_deploy(with_text(sample_deploy_file(), bytes)); }
void read_checkpoint(Bytes bytes) { apps::load_checkpoint(with_text(sample_checkpoint(), bytes)); }

void read_pt(Bytes bytes) {
  const ImportedWeights w = import_torch({bytes.begin(), bytes.end()}, kName);
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const auto& [name, t] : w.state.tensors) shapes.emplace_back(name, t.shape());
  try {
    recognise_yolov6(shapes, kName, w.block);
  } catch (const Error&) {
    // A sound file of another model.
  }
}

void read_onnx(Bytes bytes) { deploy::from_onnx(text(bytes), kName, {}); }

void read_train_config(Bytes bytes) {
  apps::parse_train_config(parse_json(text(bytes), kName), kName, "");
}
void read_qat_config(Bytes bytes) {
  apps::parse_qat_config(parse_json(text(bytes), kName), kName, "");
}
void read_ladder_config(Bytes bytes) {
  apps::parse_ladder_config(parse_json(text(bytes), kName), kName, "");
}
void read_run_state(Bytes bytes) {
  const Json meta = parse_json(text(bytes), kName);
  apps::run_state_from_json(meta, sample_run_config(), kName);
}

void read_yaml(Bytes bytes) { data::parse_data_yaml(text(bytes), kName); }

void read_labels(Bytes bytes) {
  data::Sample sample;
  sample.width = 640;
  sample.height = 480;
  data::SampleBoxes boxes(sample, 80);
  data::LabelReport report;
  data::parse_yolo_labels(text(bytes), kName, boxes, report);
  data::list_lines(text(bytes));
  report.summary();
}

void read_coco(Bytes bytes) {
  static const bool images = [] {
    for (const char* name : {"a.png", "b.png"})
      data::save_png(scratch() / "images" / "train" / name, data::make_image(64, 48));
    return true;
  }();
  (void)images;
  const fs::path file = scratch() / "annotations.json";
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  data::DatasetDescription description;
  description.where = kName;
  description.format = data::DatasetFormat::kCoco;
  description.images["train"] = {scratch() / "images" / "train"};
  description.annotations["train"] = file;
  data::Dataset dataset;
  try {
    data::read_coco_split(description, "train", dataset);
  } catch (const Error& e) {
    const std::string message = e.what();
    const std::string where = file.string();
    throw Error(message.starts_with(where) ? kName + message.substr(where.size()) : message);
  }
}

void read_voc(Bytes bytes) { data::parse_voc(text(bytes), kName); }
void read_image(Bytes bytes) { data::decode_image(bytes, kName); }

void read_ranges(Bytes bytes) {
  deploy::Graph graph = sample_quantized_graph();
  quant::apply_ranges(graph, parse_json(text(bytes), kName), kName);
}

}  // namespace

const std::vector<Reader>& readers() {
  static const std::vector<Reader> all{{"safetensors", read_safetensors},
                                       {"deploy", read_deploy},
                                       {"checkpoint", read_checkpoint},
                                       {"pt", read_pt},
                                       {"onnx", read_onnx},
                                       {"train_config", read_train_config},
                                       {"qat_config", read_qat_config},
                                       {"ladder_config", read_ladder_config},
                                       {"run_state", read_run_state},
                                       {"yaml", read_yaml},
                                       {"labels", read_labels},
                                       {"coco", read_coco},
                                       {"voc", read_voc},
                                       {"image", read_image},
                                       {"ranges", read_ranges}};
  return all;
}

const Reader* find_reader(const std::string& name) {
  const auto at = std::ranges::find(readers(), name, &Reader::name);
  return at == readers().end() ? nullptr : &*at;
}

void run(const Reader& reader, Bytes bytes) {
  try {
    reader.read(bytes);
  } catch (const Error& e) {
    const std::string message = e.what();
    if (message.starts_with(kName)) return;
    throw std::logic_error("a refusal that does not name its file: " + message);
  } catch (const std::exception& e) {
    throw std::logic_error(std::string("not an Error: ") + e.what());
  }
}

}  // namespace sextant::fuzz
