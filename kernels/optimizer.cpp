// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

namespace sextant::kernels {

std::vector<UpdatePiece> cut_into_pieces(const std::vector<UpdateTensor>& tensors) {
  std::vector<UpdatePiece> pieces;
  for (size_t t = 0; t < tensors.size(); ++t)
    for (int64_t i = 0; i * kUpdatePiece < tensors[t].n; ++i)
      pieces.push_back({static_cast<int32_t>(t), static_cast<int32_t>(i)});
  return pieces;
}

}  // namespace sextant::kernels
