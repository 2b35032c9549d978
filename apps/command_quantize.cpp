#include <fmt/format.h>

#include <memory>

#include "apps/checkpoint.h"
#include "apps/command_line.h"
#include "apps/commands.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "deploy/file.h"
#include "quant/ptq.h"

namespace sextant::apps {

void add_quantize_command(CLI::App& app) {
  struct Options {
    std::string model, data, split = "train", out;
    int image_size = 0;
    quant::PtqConfig ptq;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("quantize", "Post-training quantization to an int8 deploy file");
  c->add_option("MODEL", o->model, "Checkpoint or deploy file")->required();
  c->add_option("--data", o->data, "Dataset: folder, JSON or data.yaml")->required();
  c->add_option("--split", o->split, "Split to calibrate on")->capture_default_str();
  c->add_option("--method", o->ptq.method, "How ranges are chosen")
      ->check(CLI::IsMember({"percentile", "entropy", "mse", "max"}))
      ->capture_default_str();
  c->add_option("--percentile", o->ptq.percentile, "For --method percentile")
      ->check(CLI::Range(50.0, 100.0))
      ->capture_default_str();
  c->add_option("--images", o->ptq.images, "Images to calibrate on")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  c->add_option("--img", o->image_size, "Image size (default: as trained)");
  c->add_option("--out", o->out, "Deploy file to write")->required();
  c->callback([o] {
    const deploy::Graph graph = load_model_graph(o->model);
    const int size = choose_image_size(o->image_size, graph);
    const data::Dataset dataset = data::open_dataset(o->data, o->split);
    // Evenly spread over the split: neighbours in a folder are often frames of one scene.
    const int64_t total = std::min(o->ptq.images, dataset.size());
    int64_t next = 0;
    quant::PtqReport report;
    const deploy::Graph quantized = quant::quantize(
        graph,
        [&] {
          if (next == total) return Tensor();
          const int64_t i = next++ * dataset.size() / total;
          return data::load_batch(dataset, i, i + 1, size, static_cast<int>(graph.gray_border))
              .images;
        },
        o->ptq, &report);
    deploy::save_deploy(o->out, quantized);
    fmt::print(
        "{}: {} tensors' ranges in {} groups from {} images ({}), {} requantizations; {}\n", o->out,
        [&] {
          size_t n = 0;
          for (const auto& g : report.groups) n += g.tensors.size();
          return n;
        }(),
        report.groups.size(), report.images, o->ptq.method, report.requantizations,
        fmt::format("{:.2f} MB", static_cast<double>(std::filesystem::file_size(o->out)) / 1e6));
  });
}

}  // namespace sextant::apps
