// SPDX-License-Identifier: Apache-2.0
// Sums over processes in device memory, by NCCL; what is in host memory goes by another way.
#pragma once

#include <memory>

#include "core/communicator.h"

namespace sextant::distributed {

// `host` in a build without NCCL. The sums and broadcasts of device memory are started on
// compute_stream() and nothing waits for them, so that they can be recorded (core/device.h). NCCL is
// joined by the first of them, which every process has to make, outside a recording. Recordings have
// to be released before the communicator.
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host);

// Gives this process one of its machine's devices, by its rank there, unless a launcher has: sets
// $CUDA_VISIBLE_DEVICES. To be called before CUDA starts.
void choose_local_device(int rank_on_host);

}  // namespace sextant::distributed
