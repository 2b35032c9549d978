// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels are compiled for, and the one in use.
//
// The program as a whole is compiled for x86-64-v3 (AVX2, FMA, F16C) on x86. Kernels that benefit
// from more are compiled once for each set from the same source (kernels/cpu/simd/target.h) and
// selected at run time, as is the portable form with 16-byte vectors for other processors.
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

// The sets that this processor and system support, from least to best.
const std::vector<Isa>& usable_isas();

// The best set, or the one named by $SEXTANT_ISA. Throws Error for an unknown name or a set that
// this processor lacks.
Isa isa();

// Selects another set while it lives, for tests: everything created or called meanwhile uses it.
// Not thread-safe.
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
