// SPDX-License-Identifier: Apache-2.0
// The list of tensors that kernels/optimizer.h walks, kept where the kernels run.
//
// On a device, the list must lie in device memory. It is uploaded when an entry has changed since
// the last upload. Pointers of parameters and state are fixed, and in a loop of equal steps the
// caching allocator gives the gradients the same addresses again, so this happens in the first
// steps only.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "kernels/optimizer.h"

namespace sextant::optim {

class UpdateEntries {
 public:
  // Entries are added and changed here, with pointers to memory on `device`.
  std::vector<kernels::UpdateTensor> tensors;
  Device device = Device::kCpu;

  // The list as the kernels of `device` take it, valid until the next change. Does not wait for the
  // device.
  kernels::UpdateList list();

 private:
  std::vector<kernels::UpdatePiece> pieces_;
  std::vector<kernels::UpdateTensor> sent_;  // as last uploaded
  Tensor tensors_there_, pieces_there_;      // U8
};

}  // namespace sextant::optim
