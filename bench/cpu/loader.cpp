// SPDX-License-Identifier: Apache-2.0
#include "loader.h"

#include <fmt/format.h>

#include <chrono>

#include "data/loading/loader.h"

namespace sextant::bench {
namespace {

double images_per_second(const data::Dataset& dataset, const LoaderOptions& o,
                         const std::optional<data::AugmentConfig>& augment, bool mosaic) {
  data::LoaderConfig config;
  config.batch = o.batch;
  config.size = o.image_size;
  config.augment = augment;
  config.shuffle = true;
  config.threads = o.threads;
  config.cache_bytes = 0;
  data::Loader loader(dataset, config);
  data::Batch batch;
  int64_t done = 0, epoch = 0;
  const auto start = std::chrono::steady_clock::now();
  while (done < o.images) {
    loader.begin_epoch(epoch++, mosaic);
    while (done < o.images && loader.next(batch)) done += batch.size();
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(done) / seconds.count();
}

}  // namespace

Json loader(const LoaderOptions& o) {
  const data::Dataset dataset = data::open_dataset(o.data, o.split);
  Json result{{"what", "loader"},
              {"data", o.data},
              {"images", dataset.size()},
              {"img", o.image_size},
              {"threads", o.threads}};
  const auto measure = [&](const char* name, const std::optional<data::AugmentConfig>& augment,
                           bool mosaic) {
    const double rate = images_per_second(dataset, o, augment, mosaic);
    result[name] = rate;
    fmt::print("{:10} {:8.1f} images/s\n", name, rate);
  };
  measure("letterbox", std::nullopt, false);
  measure("plain", data::AugmentConfig{}, false);
  measure("mosaic", data::AugmentConfig{}, true);
  return result;
}

}  // namespace sextant::bench
