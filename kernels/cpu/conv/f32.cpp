// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/conv/f32.h"

#include <cstdlib>
#include <string_view>

#include "kernels/cpu/conv/simd/per_isa.h"
#include "kernels/cpu/conv/winograd_cost.h"
#include "kernels/cpu/isa.h"

namespace sextant::kernels::cpu {
namespace {

bool always_exact() {
  static const bool value = [] {
    const char* text = std::getenv("SEXTANT_EXACT");
    return text && std::string_view(text) == "1";
  }();
  return value;
}

// A thread's own: another one's convolutions are chosen as if it were not there.
thread_local bool exact = false;

}  // namespace

ExactSums::ExactSums() : before_(exact) { exact = true; }
ExactSums::~ExactSums() { exact = before_; }

std::unique_ptr<F32Conv> make_direct(const Window& window, const WeightView& w) {
  SEXTANT_CALL_F32_ISA(make_direct, window, w);
}

std::unique_ptr<F32Conv> make_winograd(const Window& window, const WeightView& w, int m) {
  check(can_winograd(window) && (m == 2 || m == 4),
        "make_winograd: a {} x {} kernel of stride {} with m = {}, must be 3 x 3 of stride 1, m 2 "
        "or 4",
        window.kh, window.kw, window.stride, m);
  SEXTANT_CALL_F32_ISA(make_winograd, window, w, m);
}

std::unique_ptr<F32Conv> make_depthwise(const Window& window, const WeightView& w) {
  SEXTANT_CALL_F32_ISA(make_depthwise, window, w);
}

ConvAlgorithm fastest(const Window& w) {
  if (exact || always_exact() || !can_winograd(w)) return ConvAlgorithm::kDirect;
  const double direct = direct_cost(w), by2 = winograd_cost(w, 2), by4 = winograd_cost(w, 4);
  if (direct < by2 && direct < by4) return ConvAlgorithm::kDirect;
  return by4 < by2 ? ConvAlgorithm::kWinograd4 : ConvAlgorithm::kWinograd2;
}

std::unique_ptr<F32Conv> make_conv(const Window& window, const WeightView& w, ConvAlgorithm a) {
  if (a == ConvAlgorithm::kAuto) a = fastest(window);
  if (a == ConvAlgorithm::kDirect) return make_direct(window, w);
  return make_winograd(window, w, a == ConvAlgorithm::kWinograd2 ? 2 : 4);
}

void weight_gradient(const Window& window, const F32Gradient& p) {
  SEXTANT_CALL_F32_ISA(weight_gradient, window, p);
}

void winograd_weight_gradient(const Window& window, const F32Gradient& p) {
  SEXTANT_CALL_F32_ISA(winograd_weight_gradient, window, p);
}

void depthwise_weight_gradient(const Window& window, const F32Gradient& p) {
  SEXTANT_CALL_F32_ISA(depthwise_weight_gradient, window, p);
}

}  // namespace sextant::kernels::cpu
