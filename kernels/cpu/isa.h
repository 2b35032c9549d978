// Instruction sets that kernels are compiled for, and the one in use.
//
// The program as a whole is compiled for x86-64-v3 (AVX2, FMA, F16C) on x86. Kernels that gain from
// more, and the portable form of 16-byte vectors that other processors use, are compiled once for
// each set from the same source (kernels/cpu/simd/target.h), and chosen while running.
#pragma once

#include <vector>

#include "core/enum_names.h"

namespace sextant::kernels::cpu {

enum class Isa { kPortable, kAvx2, kAvx2Vnni, kAvx512, kAvx512Vnni };

constexpr auto enum_names(Isa) {
  return make_enum_names<Isa>("instruction set", {{Isa::kPortable, "portable"},
                                                  {Isa::kAvx2, "avx2"},
                                                  {Isa::kAvx2Vnni, "avx2_vnni"},
                                                  {Isa::kAvx512, "avx512"},
                                                  {Isa::kAvx512Vnni, "avx512_vnni"}});
}

// Those that this processor and system have, from the least to the best.
const std::vector<Isa>& usable_isas();

// The best, or the one that $SEXTANT_ISA names. Throws Error for a name that is not one, or one that
// this processor lacks.
Isa isa();

// Another for the length of a scope, for tests: what is made or called inside runs on it. Not for
// several threads.
class ForcedIsa {
 public:
  explicit ForcedIsa(Isa isa);
  ~ForcedIsa();
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  Isa before_;
};

}  // namespace sextant::kernels::cpu
