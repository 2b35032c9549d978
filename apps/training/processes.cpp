// SPDX-License-Identifier: Apache-2.0
#include "apps/training/processes.h"

#include <fmt/format.h>

#include <array>

#include "core/config.h"
#include "core/hash.h"

namespace sextant::apps {
std::function<LossItems()> summed(std::function<LossItems()> items, bool counts,
                                  Communicator* across) {
  if (!across) return items;
  return [items = std::move(items), counts, across] {
    LossItems all = counts ? items() : LossItems{};
    double* const parts[] = {&all.iou, &all.dfl, &all.cls, &all.objectness, &all.cwd};
    std::array<double, std::size(parts)> sums;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = *parts[i];
    across->sum(sums.data(), std::ssize(sums), DType::kF64, Device::kCpu);
    for (size_t i = 0; i < sums.size(); ++i) *parts[i] = sums[i];
    return all;
  };
}

Json comparable(Json config) {
  for (const char* key : {"workers", "device", "cache_mb", "init", "teacher", "model", "start"})
    if (config.contains(key) && !config[key].is_object()) config.erase(key);
  config["data"].erase("path");
  return config;
}

void check_agreement(Communicator& across, const Json& mine) {
  const std::vector<std::string> all = across.gather(json_text(mine));
  const Json first = parse_json(all[0], "process 0");
  const std::string config = "config.";
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const Json other = parse_json(all[rank], fmt::format("process {}", rank));
    const auto key = first_difference(first, other);
    if (!key) continue;
    check(!key->starts_with(config), "process {} has another config than process 0: '{}' differs",
          rank, key->substr(std::min(key->size(), config.size())));
    fail("process {} differs from process 0 in its {}: {}, {} there", rank, *key,
         short_json(other.value(*key, Json())), short_json(first.value(*key, Json())));
  }
}

void spread(Communicator& across, const Tensor& t) {
  across.broadcast(t.raw(), t.numel() * size_of(t.dtype()), t.device());
}
void spread(Communicator& across, const optim::NamedTensors& tensors) {
  for (const auto& [name, t] : tensors) spread(across, t);
}

void check_same_state(Communicator& across, const Module& module, int64_t epoch) {
  Hash64 f;
  for (const auto& s : module.state()) {
    const Tensor t = s.tensor.to(Device::kCpu);
    f.add(t.raw(), t.bytes());
  }
  const std::vector<std::string> all = across.gather(f.text());
  for (size_t rank = 1; rank < all.size(); ++rank)
    check(all[rank] == all[0],
          "process {} has other weights than process 0 after epoch {}; resume the run to continue",
          rank, epoch);
}

}  // namespace sextant::apps
