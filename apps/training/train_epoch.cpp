// SPDX-License-Identifier: Apache-2.0
#include "apps/training/train_epoch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/communicator.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/progress.h"

namespace sextant::apps {

std::string describe_data(const data::Dataset& train, const data::Dataset& val) {
  return fmt::format(
      "{} train and {} val images, {} classes, {} and {} boxes ({} and {} images without)",
      train.size(), val.size(), train.num_classes(), train.boxes(), val.boxes(),
      train.images_without_boxes(), val.images_without_boxes());
}

void print_report(const data::Dataset& dataset) {
  if (!dataset.report.empty())
    print_notice(fmt::format("{} ({}): {}", dataset.path, dataset.split, dataset.report.summary()));
}

data::LoaderConfig loader_config(const RunConfig& config, Device device, int64_t gray_border) {
  data::LoaderConfig c;
  c.batch = config.batch;
  c.size = config.image_size;
  c.border = static_cast<int>(gray_border);
  c.shuffle = true;
  c.augment = config.augment;
  c.seed = config.seed;
  c.threads = config.workers > 0 ? config.workers : std::min(num_threads(), 256);
  c.cache_bytes = config.cache_mb >= 0 ? config.cache_mb << 20 : available_memory() / 2;
  if (config.cache_mb >= 0) c.device_cache_bytes = c.cache_bytes;
  c.device = device;
  if (const Communicator* all = processes()) {
    c.process = all->rank();
    c.processes = all->size();
    if (config.cache_mb < 0) c.cache_bytes /= all->size();  // perhaps all on this machine
  }
  return c;
}

LossItems check_finite(const LossItems& items, int64_t epoch) {
  check(std::isfinite(items.total()),
        "the loss is not finite in epoch {}; a lower 'solver.lr0' may help", epoch + 1);
  return items;
}

EpochRow run_epoch(const EpochContext& context,
                   const std::function<Iteration(const data::Batch&, int64_t)>& iterate) {
  const auto start = std::chrono::steady_clock::now();
  const int64_t epoch = context.epoch, total = context.loader.batches_per_epoch();
  const RunConfig& config = context.config;
  context.loader.begin_epoch(epoch, epoch < config.epochs - config.close_mosaic);
  EpochRow row;
  row.epoch = epoch + 1;
  data::Batch batch;
  Progress progress(fmt::format("epoch {}/{}", epoch + 1, config.epochs), total);
  int64_t counted = 0;
  const auto count = [&](const Iteration& it) {
    const LossItems items = check_finite(it.items(), epoch);
    row.lr = it.lr;
    row.loss_iou += items.iou / static_cast<double>(total);
    row.loss_dfl += items.dfl / static_cast<double>(total);
    row.loss_cls += items.cls / static_cast<double>(total);
    row.loss_cwd += items.cwd / static_cast<double>(total);
    row.loss_obj += items.objectness / static_cast<double>(total);
    progress.update(++counted,
                    fmt::format("iou {:.3f} cls {:.3f} lr {:.5f}", items.iou, items.cls, it.lr));
  };
  Iteration last;
  for (int64_t i = 0; context.loader.next(batch); ++i) {
    if (epoch == 0 && i == 0 && is_first_process())
      write_batch_picture(context.picture, batch, context.names);
    Iteration it = iterate(batch, epoch * total + i);
    if (last.items) count(last);
    last = std::move(it);
  }
  if (last.items) count(last);
  progress.finish();
  row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return row;
}

void print_epoch(const EpochRow& row, int64_t epochs) {
  const std::string map =
      row.map50_95 < 0 ? "" : fmt::format("mAP50 {:.4f}  mAP50-95 {:.4f}", row.map50, row.map50_95);
  if (row.epoch == 0)
    fmt::print("start: {}\n", map);
  else
    fmt::print("epoch {:>3}/{}  {:>6.1f} s  iou {:.4f}  cls {:.4f}  {}{}lr {:.3g}  {}\n", row.epoch,
               epochs, row.seconds, row.loss_iou, row.loss_cls,
               row.loss_obj > 0 ? fmt::format("obj {:.4f}  ", row.loss_obj) : "",
               row.loss_cwd > 0 ? fmt::format("cwd {:.4f}  ", row.loss_cwd) : "", row.lr, map);
  std::fflush(stdout);
}

}  // namespace sextant::apps
