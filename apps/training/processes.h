// SPDX-License-Identifier: Apache-2.0
// What the processes of a run tell each other besides gradients.
#pragma once

#include <functional>
#include <string>

#include "core/communicator.h"
#include "data/dataset/dataset.h"
#include "layers/module.h"
#include "models/loss/detection_loss.h"
#include "optim/param_groups.h"

namespace sextant::apps {

// The losses of a batch as the sums of those of all processes; `counts` as data::Batch. Null: as they
// are.
std::function<LossItems()> summed(std::function<LossItems()> items, bool counts,
                                  Communicator* across);

// A config without what may differ from host to host, or does not change the result.
Json comparable(Json config);
// Every process calls it with what has to be the same on all. Throws the same Error on all, which
// names a process that differs from process 0, and the key.
void check_agreement(Communicator& across, const Json& mine);

// Process 0's values, on every process.
void spread(Communicator& across, const Tensor& t);
void spread(Communicator& across, const optim::NamedTensors& tensors);

// The same sums have moved the same weights, so that a difference is a fault of the machinery. Throws
// the same Error on all.
void check_same_state(Communicator& across, const Module& module, int64_t epoch);

}  // namespace sextant::apps
