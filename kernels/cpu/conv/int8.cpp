// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/int8.h"

#include <algorithm>

#include "kernels/cpu/conv/simd/per_isa.h"
#include "kernels/cpu/conv/simd_int8/per_isa.h"
#include "kernels/cpu/isa.h"

namespace sextant::kernels::cpu {

bool can_winograd_int8(const Window& win, const int8_t* w, int m) {
  if (!can_winograd(win)) return false;
  // y times the scale is below 2^31 for x in 0..255 and in -128..127.
  const int64_t limit = (int64_t{1} << 31) / (m == 2 ? 4 : 64) - 1;
  const int64_t filter = 9 * win.ic;
  for (int64_t o = 0; o < win.oc; ++o) {
    int64_t positive = 0, negative = 0;
    for (int64_t i = 0; i < filter; ++i) {
      const int value = w[o * filter + i];
      (value > 0 ? positive : negative) += std::abs(value);
    }
    const int64_t largest =
        std::max(255 * std::max(positive, negative), 128 * (positive + negative));
    if (largest > limit) return false;
  }
  return true;
}

bool has_vnni() { return isa() == Isa::kAvx2Vnni || isa() == Isa::kAvx512Vnni; }

// Without the wide sets there is none with VNNI.
#if defined(SEXTANT_WIDE)
#define SEXTANT_CALL(name, ...)                                         \
  if (isa() == Isa::kAvx512Vnni) return avx512_vnni::name(__VA_ARGS__); \
  if (isa() == Isa::kAvx2Vnni) return avx2_vnni::name(__VA_ARGS__);     \
  SEXTANT_CALL_F32_ISA(name, __VA_ARGS__)
#else
#define SEXTANT_CALL(name, ...) SEXTANT_CALL_F32_ISA(name, __VA_ARGS__)
#endif

std::unique_ptr<Int8Conv> make_direct_int8(const Window& window, const int8_t* w) {
  SEXTANT_CALL(make_direct_int8, window, w);
}

std::unique_ptr<Int8Conv> make_depthwise_int8(const Window& window, const int8_t* w) {
  SEXTANT_CALL(make_depthwise_int8, window, w);
}

std::unique_ptr<Int8Conv> make_winograd_int8(const Window& window, const int8_t* w, int m) {
  check((m == 2 || m == 4) && can_winograd_int8(window, w, m),
        "make_winograd_int8: a {} x {} kernel of stride {} with m = {}: must be 3 x 3 of stride 1 "
        "with sums that fit 32 bits times m^3, m 2 or 4",
        window.kh, window.kw, window.stride, m);
  SEXTANT_CALL(make_winograd_int8, window, w, m);
}

}  // namespace sextant::kernels::cpu
