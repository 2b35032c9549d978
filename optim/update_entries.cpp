// SPDX-License-Identifier: Apache-2.0
#include "optim/update_entries.h"

namespace sextant::optim {
namespace {

// Copies the elements into `there`, which is reallocated when their number changes.
template <class T>
void send(const std::vector<T>& values, Tensor& there, Device device) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
  if (!there.defined() || there.numel() != bytes) there = Tensor(Shape{bytes}, DType::kU8, device);
  if (bytes > 0) accelerator().upload(there.raw(), values.data(), bytes, compute_stream());
}

}  // namespace

kernels::UpdateList UpdateEntries::list() {
  const bool added = sent_.size() != tensors.size();
  if (added) pieces_ = kernels::cut_into_pieces(tensors);
  kernels::UpdateList list{tensors.data(), static_cast<int64_t>(tensors.size()), pieces_.data(),
                           static_cast<int64_t>(pieces_.size())};
  if (device == Device::kCpu) {
    if (added) sent_ = tensors;
    return list;
  }
  if (added) send(pieces_, pieces_there_, device);
  if (added || sent_ != tensors) {
    send(tensors, tensors_there_, device);
    sent_ = tensors;
  }
  if (!tensors_there_.defined()) return list;  // empty
  list.tensors = static_cast<const kernels::UpdateTensor*>(tensors_there_.raw());
  list.pieces = static_cast<const kernels::UpdatePiece*>(pieces_there_.raw());
  return list;
}

}  // namespace sextant::optim
