// SPDX-License-Identifier: Apache-2.0
#include "support/formula_weights.h"

#include <cmath>

#include "core/rng.h"

namespace sextant::test {

void fill_formula_weights(const std::string& name, const Tensor& t, const std::string& salt,
                          double gain, double norm_bias) {
  if (t.dtype() != DType::kF32 || name.find("detect.proj") == 0) return;
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const auto ends = [&](const char* part) { return name.ends_with(part); };
  uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : salt + name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;

  double scale = 1, offset = 0;
  bool absolute = false;
  const bool norm = has(".bn.") || has(".bn_") || has("rbr_identity.");
  if (t.shape().rank() == 4) {
    const auto fan = static_cast<double>(t.dim(1) * t.dim(2) * t.dim(3));
    if (has("upsample_transpose")) {
      scale = std::sqrt(3.0 / static_cast<double>(t.dim(0)));
    } else {
      const double g = has(".rbr_") ? 0.45 * gain : (has("_preds") ? 1.0 : gain);
      scale = g * std::sqrt(3.0 / fan);
    }
  } else if (ends("alpha")) {
    scale = 0.1, offset = 0.4;
  } else if (has(".scale_")) {
    scale = 0.2, offset = 0.7;
  } else if (ends("running_mean")) {
    scale = 0.1;
  } else if (ends("running_var")) {
    scale = 0.5, offset = 1, absolute = true;
  } else if (norm && ends(".weight")) {
    scale = 0.1, offset = 1;
  } else if (norm) {
    scale = 0.1, offset = norm_bias;
  } else if (has(".cls_preds") || has(".obj_preds")) {
    scale = 0.5, offset = -2;
  } else if (has(".reg_preds")) {
    scale = 0.5, offset = 1;
  } else {
    scale = 0.05;
  }
  for (int64_t i = 0; i < t.numel(); ++i) {
    const double u =
        static_cast<double>(splitmix64(h + static_cast<uint64_t>(i)) >> 11) * 0x1p-52 - 1.0;
    t.f32()[i] = static_cast<float>(offset + scale * (absolute ? std::abs(u) : u));
  }
}

}  // namespace sextant::test
