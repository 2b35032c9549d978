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
#include "core/text.h"

namespace sextant::apps {

std::string describe_data(const data::Dataset& train, const data::Dataset& val) {
  return fmt::format("{} train and {} val images, {}, {} and {} boxes ({} and {} images without)",
                     train.size(), val.size(), counted(train.num_classes(), "class", "classes"),
                     train.boxes(), val.boxes(), train.images_without_boxes(),
                     val.images_without_boxes());
}

void print_report(const data::Dataset& dataset) {
  if (!dataset.report.empty())
    print_notice(fmt::format("{} ({}): {}", dataset.path, dataset.split, dataset.report.summary()));
}

data::LoaderConfig loader_config(const RunConfig& config, Device device, int64_t gray_border) {
  data::LoaderConfig c;
  c.batch = config.batch;
  c.size = config.image_size;
  c.width = config.image_width;
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
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  data::Batch batch;
  Progress progress(fmt::format("epoch {}/{}", epoch + 1, config.epochs), total);
  int64_t counted = 0;
  const auto count = [&](const Iteration& it) {
    const LossItems items = check_finite(it.items(), epoch);
    row.lr_norm = it.lr[0];
    row.lr = it.lr[1];
    row.lr_bias = it.lr[2];
    row.loss_iou += items.iou / static_cast<double>(total);
    row.loss_dfl += items.dfl / static_cast<double>(total);
    row.loss_cls += items.cls / static_cast<double>(total);
    row.loss_cwd += items.cwd / static_cast<double>(total);
    row.loss_obj += items.objectness / static_cast<double>(total);
    const double part = static_cast<double>(++counted) / static_cast<double>(total);
    progress.update(
        counted,
        fmt::format(
            "iou {:.3f} cls {:.3f} lr {:.5f} {:.1f} img/s{} run: {} left", items.iou, items.cls,
            it.lr[1], static_cast<double>(row.images) / seconds(),
            context.best < 0 ? "" : fmt::format(" best {:.4f}", context.best),
            format_duration(context.clock.seconds_left(static_cast<double>(epoch) + part))));
  };
  Iteration last;
  for (int64_t i = 0; context.loader.next(batch); ++i) {
    if (epoch == 0 && i == 0 && is_first_process())
      write_batch_picture(context.picture, batch, context.names);
    Iteration it = iterate(batch, epoch * total + i);
    row.images += batch.whole > 0 ? batch.whole : batch.size();
    if (last.items) count(last);
    last = std::move(it);
  }
  if (last.items) count(last);
  progress.finish();
  row.seconds = seconds();
  return row;
}

void print_epoch(const EpochRow& row, const EpochSummary& summary) {
  std::string end;
  if (row.map50_95 >= 0) {
    end = fmt::format("mAP50 {:.4f}  mAP50-95 {:.4f}", row.map50, row.map50_95);
    if (row.epoch > 0 && summary.best_epoch == row.epoch)
      end += "  best so far";
    else if (summary.best_epoch >= 0)
      end += fmt::format("  best {:.4f} (epoch {})", summary.best, summary.best_epoch);
  }
  if (row.epoch == 0)
    fmt::print("start: {}\n", end);
  else
    fmt::print(
        "epoch {:>3}/{}  {:>6.1f} s  {:.1f} img/s  iou {:.4f}  cls {:.4f}  {}{}lr {:.3g}  {}{}\n",
        row.epoch, summary.epochs, row.seconds, row.images_per_second(), row.loss_iou, row.loss_cls,
        row.loss_obj > 0 ? fmt::format("obj {:.4f}  ", row.loss_obj) : "",
        row.loss_cwd > 0 ? fmt::format("cwd {:.4f}  ", row.loss_cwd) : "", row.lr,
        summary.seconds_left > 0 ? fmt::format("{} left  ", format_duration(summary.seconds_left))
                                 : "",
        end);
  std::fflush(stdout);
}

}  // namespace sextant::apps
