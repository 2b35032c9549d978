// SPDX-License-Identifier: Apache-2.0
// Exponential moving average of a model's parameters and running statistics, as in the official
// YOLOv6 (utils/ema.py, ModelEMA):
//
//   n += 1;  d = decay * (1 - exp(-n / tau));  ema = d * ema + (1 - d) * model
//
// The small d of the first updates lets the average follow a model that still moves fast.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "optim/param_groups.h"
#include "optim/update_entries.h"

namespace sextant::optim {

class ModelEma {
 public:
  // `model`: parameters and running statistics under their names; the tensors share the model's
  // memory, which update() reads (see optimizer.h on set_data). Tensors that are not F32 (the
  // counters num_batches_tracked) are ignored. Starts as a copy of the model, on its device.
  // Throws Error when the model is on two devices.
  explicit ModelEma(const NamedTensors& model, double decay = 0.9999, double tau = 2000.0);

  // One update from the model's current values, after an optimizer step. One pass, in place.
  void update();

  // For code that updates the average in its own pass (Optimizer::average_into): the list with the
  // values of model and average. count() counts one update and returns its 1 - d.
  const std::vector<kernels::UpdateTensor>& entries() const { return entries_.tensors; }
  double count();
  Device device() const { return entries_.device; }

  // d of the n-th update, n from 1.
  double decay_at(int64_t n) const;
  int64_t updates() const;
  // The averages, under the model's names and in its order.
  const NamedTensors& tensors() const { return average_; }

  // Swaps the values of model and average; a second call restores them. See EmaScope.
  void swap_with_model();

  // "<prefix><name>" for each average and "<prefix>ema_updates" (I64, one value).
  NamedTensors state(const std::string& prefix) const;
  // The reverse. Throws Error naming file and tensor when one is missing or has another shape.
  void load_state(const SafeTensors& file, const std::string& prefix);

 private:
  double decay_;
  double tau_;
  Tensor updates_;
  NamedTensors model_;
  NamedTensors average_;
  UpdateEntries entries_;
};

// While it is alive, the model holds the averages: for evaluation and for saving.
class EmaScope {
 public:
  explicit EmaScope(ModelEma& ema) : ema_(ema) { ema_.swap_with_model(); }
  ~EmaScope() { ema_.swap_with_model(); }
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  ModelEma& ema_;
};

}  // namespace sextant::optim
