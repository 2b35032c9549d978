// SPDX-License-Identifier: Apache-2.0
#include "apps/training/repopt.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "apps/training/solver.h"
#include "core/communicator.h"
#include "core/file.h"
#include "core/folder_lock.h"
#include "models/yolov6.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

TrainConfig search_config(TrainConfig c) {
  c.model["training_mode"] = std::string(name_of(TrainingMode::kHyperSearch));
  c.epochs = c.training.search_epochs;
  c.training = {};
  c.init.clear();  // weights for the target
  return c;
}

// The scales of an earlier run, or of a file.
optim::RepScales earlier_scales(const fs::path& from) {
  if (!is_folder(from)) return optim::extract_scales(load_safetensors(from));
  for (const char* name : {"scales.safetensors", "last.safetensors"})
    if (file_exists(from / name)) return optim::extract_scales(load_safetensors(from / name));
  fail("{}: holds neither scales.safetensors nor last.safetensors; is its hyper-search over?",
       from.string());
}

void save_scales(const fs::path& path, const optim::RepScales& scales) {
  SafeTensors file;
  file.tensors = scales.named();
  const Json meta = {{"format", "sextant-scales"}, {"version", 1}, {"from", scales.source}};
  file.metadata["sextant"] = json_text(meta);
  save_safetensors(path, file);
  float low = std::numeric_limits<float>::max(), high = std::numeric_limits<float>::lowest();
  for (const auto& [name, tensor] : file.tensors)
    for (const float v : tensor.span<float>()) {
      low = std::min(low, v);
      high = std::max(high, v);
    }
  fmt::print("scales of {} blocks from {}: {:.3f} to {:.3f}; kept in {}\n", scales.blocks.size(),
             scales.source, low, high, path.string());
}

}  // namespace

RunResult train_repopt(const TrainConfig& config, const fs::path& out,
                       const RepOptOptions& options) {
  const fs::path scales_file = out / "scales.safetensors", search = out / "search";
  const bool begun = from_first([&] {
    return file_exists(scales_file) || file_exists(search / "config.json") ||
           file_exists(out / "config.json");
  });
  if (begun && !options.resume) fail_run_exists(out);
  int64_t stop_after = options.stop_after;
  std::optional<FolderLock> lock;  // until the run of the second stage takes it
  const bool found = from_first([&] {
    lock.emplace(out);
    return file_exists(scales_file);
  });
  if (!found) {
    if (options.from.empty()) {
      fmt::print("stage 1 of 2: hyper-search, {} epochs, in {}\n", config.training.search_epochs,
                 search.string());
      RunResult r = train(search_config(config), search, options.resume, stop_after);
      const double minutes =
          r.seconds_per_epoch * static_cast<double>(config.training.search_epochs) / 60;
      if (r.complete) fmt::print("hyper-search: {:.1f} minutes of training\n", minutes);
      if (!r.complete) return r;
      from_first([&] {
        save_scales(scales_file,
                    optim::extract_scales(load_safetensors(search / "last.safetensors")));
        return true;
      });
      if (stop_after > 0 && r.trained == stop_after) {
        r.complete = false;
        return r;
      }
      stop_after -= stop_after > 0 ? r.trained : 0;
    } else {
      const optim::RepScales scales = earlier_scales(options.from);
      // Before anything is written: a wrong --from leaves the folder as it was.
      optim::check_scales(scales, scales_of_search(read_yolov6_config(
                                      ConfigReader(config.model, config.where, "model."), 1)));
      from_first([&] {
        fs::create_directories(out);
        save_scales(scales_file, scales);
        return true;
      });
    }
  } else {
    check(options.from.empty(), "{}: the run has its scales already, it cannot take those of {}",
          scales_file.string(), options.from);
  }
  const optim::RepScales scales = optim::extract_scales(load_safetensors(scales_file));
  lock.reset();
  fmt::print("stage 2 of 2: target, {} epochs, in {}\n", config.epochs, out.string());
  const RunResult r = train(config, out, options.resume, stop_after, &scales);
  if (r.complete)
    fmt::print("target: {:.1f} minutes of training\n",
               r.seconds_per_epoch * static_cast<double>(config.epochs) / 60);
  return r;
}

}  // namespace sextant::apps
