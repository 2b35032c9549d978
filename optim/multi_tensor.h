// One parallel pass over many tensors.
//
// A model has a few hundred parameters, most of them of 16 to 256 values: a parallel region for
// each would cost more than the work. So all tensors are cut into pieces of at most kPiece
// elements once, and one region walks the list of pieces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/parallel.h"

namespace sextant::optim {

class MultiTensor {
 public:
  static constexpr int64_t kPiece = 16384;

  MultiTensor() = default;
  explicit MultiTensor(const std::vector<int64_t>& sizes) {
    for (size_t t = 0; t < sizes.size(); ++t) {
      for (int64_t begin = 0; begin < sizes[t]; begin += kPiece) {
        pieces_.push_back({static_cast<int64_t>(t), begin, std::min(begin + kPiece, sizes[t])});
      }
    }
  }

  // Calls body(tensor, begin, end) once for every piece. Elements are independent, so the result
  // does not depend on the number of threads. `body` must not throw.
  template <class Body>
  void run(const Body& body) const {
    parallel_for(static_cast<int64_t>(pieces_.size()), 8, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const Piece& p = pieces_[static_cast<size_t>(i)];
        body(p.tensor, p.begin, p.end);
      }
    });
  }

 private:
  struct Piece {
    int64_t tensor;
    int64_t begin;
    int64_t end;
  };
  std::vector<Piece> pieces_;
};

}  // namespace sextant::optim
