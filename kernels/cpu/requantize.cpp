// SPDX-License-Identifier: Apache-2.0
#include "kernels/math/requantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

using namespace requantizing;

constexpr int64_t kBlock = 1 << 14;  // elements whose sum is taken in one go

// Calls f(channel, begin, end, block) for blocks of [channels, inner]; begin and end count from the
// start of the tensor. Blocks of a channel have consecutive numbers.
template <class P, class F>
void for_blocks(const P& p, const F& f) {
  const int64_t per_channel = (p.inner + kBlock - 1) / kBlock;
  const int64_t grain = std::max<int64_t>(1, kBlock / std::max<int64_t>(1, p.inner));
  parallel_for(p.channels * per_channel, grain, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t channel = b / per_channel, begin = (b % per_channel) * kBlock;
      f(channel, channel * p.inner + begin, channel * p.inner + std::min(p.inner, begin + kBlock),
        b);
    }
  });
}

}  // namespace

void quantize_forward(const QuantizeForward& p) {
  const Quantize& f = p.form;
  for_blocks(f, [&](int64_t channel, int64_t begin, int64_t end, int64_t) {
    const Steps steps(f.by_inverse, f.scale[channel]);
    const float low = f.low, high = f.high;
    const float* x = f.x;
    float* q = p.q;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) q[i] = clamp(std::nearbyint(steps(x[i])), low, high);
  });
}

void quantize_backward(const QuantizeBackward& p) {
  const Quantize& f = p.form;
  const int64_t per_channel = (f.inner + kBlock - 1) / kBlock;
  std::vector<double> parts(p.dscale != nullptr ? static_cast<size_t>(f.channels * per_channel)
                                                : 0);
  for_blocks(f, [&](int64_t channel, int64_t begin, int64_t end, int64_t block) {
    const Steps steps(f.by_inverse, f.scale[channel]);
    const float low = f.low, high = f.high;
    const float* x = f.x;
    const float* dy = p.dy;
    float* dx = p.dx;
    if (p.dscale != nullptr) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) {
        const float s = steps(x[i]), r = std::nearbyint(s);
        sum += static_cast<double>(dy[i] * step_slope(s, r, low, high));
      }
      parts[static_cast<size_t>(block)] = sum;
    }
    if (dx != nullptr) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const float r = std::nearbyint(steps(x[i]));
        dx[i] = r >= low && r <= high ? dy[i] : 0.0f;
      }
    }
  });
  if (p.dscale == nullptr) return;
  for (int64_t c = 0; c < f.channels; ++c) {
    p.dscale[c] = 0;
    for (int64_t b = 0; b < per_channel; ++b)
      p.dscale[c] += parts[static_cast<size_t>(c * per_channel + b)];
  }
}

void fold_scales(const FoldScales& p) {
  for (int64_t o = 0; o < p.scales.channels; ++o) fold_channel(p.scales, o, p.bias, p.factor);
}

void dequantize(const Dequantize& p) {
  for_blocks(p, [&](int64_t channel, int64_t begin, int64_t end, int64_t) {
    const float scale = p.scale[channel];
    const float* q = p.q;
    float* y = p.y;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) y[i] = q[i] * scale;
  });
}

namespace {

// The gains, or as many ones.
class Gains {
 public:
  explicit Gains(const Requantize& f)
      : ones_(f.gain ? 0 : static_cast<size_t>(f.channels), 1.0f),
        data_(f.gain ? f.gain : ones_.data()) {}
  const float* data() const { return data_; }

 private:
  std::vector<float> ones_;
  const float* data_;
};

template <Activation A>
void forward_rows(const RequantizeForward& p, const float* gain, int64_t begin, int64_t end) {
  const Requantize& f = p.form;
  const Requantized<A> epilogue(f);
  const float low = f.low, high = f.high;
  const bool round = f.round;
  for (int64_t r = begin; r < end; ++r) {
    const float* sums = f.sums + r * f.channels;
    const float* residual = f.residual != nullptr ? f.residual + r * f.channels : sums;
    float* y = p.y + r * f.channels;
#pragma omp simd
    for (int64_t c = 0; c < f.channels; ++c) {
      const float v = epilogue.post(epilogue.pre(sums[c], f.bias[c], f.factor[c], residual[c]),
                                    residual[c], gain[c]);
      y[c] = round ? clamp(std::nearbyint(v), low, high) : v;
    }
  }
}

// Returns the part of dscale.
template <Activation A>
double backward_rows(const RequantizeBackward& p, const float* gain, int64_t begin, int64_t end) {
  const Requantize& f = p.form;
  const Requantized<A> epilogue(f);
  const float low = f.low, high = f.high, factor = p.residual_factor;
  const bool round = f.round, before = epilogue.steps.adds_before,
             wants_scale = p.dscale != nullptr;
  double sum = 0;
  for (int64_t r = begin; r < end; ++r) {
    const float* sums = f.sums + r * f.channels;
    const float* residual = f.residual != nullptr ? f.residual + r * f.channels : sums;
    const float* dy = p.dy + r * f.channels;
    float* dv = p.dv + r * f.channels;
    float* dresidual = p.dresidual != nullptr ? p.dresidual + r * f.channels : nullptr;
    if (wants_scale) {
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < f.channels; ++c) {
        const float s = epilogue.post(epilogue.pre(sums[c], f.bias[c], f.factor[c], residual[c]),
                                      residual[c], gain[c]);
        const float q = std::nearbyint(s);
        sum += static_cast<double>(dy[c] * step_slope(s, q, low, high));
      }
    }
#pragma omp simd
    for (int64_t c = 0; c < f.channels; ++c) {
      const float pre = epilogue.pre(sums[c], f.bias[c], f.factor[c], residual[c]);
      const float q = std::nearbyint(epilogue.post(pre, residual[c], gain[c]));
      const float d = !round || (q >= low && q <= high) ? dy[c] : 0.0f;
      const float through = d * activate_grad<A>(pre) * gain[c];
      if (dresidual != nullptr) dresidual[c] = factor * (before ? through : d);
      dv[c] = through;
    }
  }
  return sum;
}

}  // namespace

void requantize_forward(const RequantizeForward& p) {
  const Gains gains(p.form);
  const int64_t grain = std::max<int64_t>(1, kBlock / std::max<int64_t>(1, p.form.channels));
  dispatch_activation(p.form.epilogue.activation, [&](auto tag) {
    parallel_for(p.form.rows, grain, [&](int64_t begin, int64_t end) {
      forward_rows<decltype(tag)::value>(p, gains.data(), begin, end);
    });
  });
}

void requantize_backward(const RequantizeBackward& p) {
  const Gains gains(p.form);
  const int64_t rows = std::max<int64_t>(1, kBlock / std::max<int64_t>(1, p.form.channels));
  const int64_t blocks = (p.form.rows + rows - 1) / rows;
  std::vector<double> parts(static_cast<size_t>(blocks));
  dispatch_activation(p.form.epilogue.activation, [&](auto tag) {
    parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        parts[static_cast<size_t>(b)] = backward_rows<decltype(tag)::value>(
            p, gains.data(), b * rows, std::min(p.form.rows, (b + 1) * rows));
    });
  });
  if (p.dscale == nullptr) return;
  *p.dscale = 0;
  for (const double part : parts) *p.dscale += part;
}

}  // namespace sextant::kernels::SEXTANT_CPU
