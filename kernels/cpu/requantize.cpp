#include "kernels/requantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"

namespace sextant::kernels::cpu {
namespace {

constexpr int64_t kBlock = 1 << 14;  // elements whose sum is taken in one go

float clamp(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }

// Calls f(channel, begin, end, block) for blocks of [channels, inner]; begin and end count from the
// start of the tensor. Blocks of a channel have consecutive numbers.
template <class F>
void for_blocks(const Quantize& p, const F& f) {
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

// x in steps: both forms, one of which is a factor of 1.
struct Steps {
  Steps(const Quantize& p, int64_t channel)
      : factor(p.by_inverse ? 1.0f / p.scale[channel] : 1.0f),
        divisor(p.by_inverse ? 1.0f : p.scale[channel]) {}
  float operator()(float x) const { return x * factor / divisor; }
  float factor, divisor;
};

}  // namespace

void quantize_forward(const QuantizeForward& p) {
  const Quantize& f = p.form;
  for_blocks(f, [&](int64_t channel, int64_t begin, int64_t end, int64_t) {
    const Steps steps(f, channel);
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
    const Steps steps(f, channel);
    const float low = f.low, high = f.high;
    const float* x = f.x;
    const float* dy = p.dy;
    float* dx = p.dx;
    if (p.dscale != nullptr) {
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = begin; i < end; ++i) {
        const float s = steps(x[i]), r = std::nearbyint(s);
        sum += static_cast<double>(dy[i] * (r < low ? low : (r > high ? high : r - s)));
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

namespace {

// One value, before rounding; `pre` is what the activation sees.
template <Activation A>
struct Epilogue {
  explicit Epilogue(const Requantize& f)
      : before(f.residual != nullptr && f.residual_before_act),
        after(f.residual != nullptr && !f.residual_before_act),
        act_scale(f.act_scale),
        residual_scale(f.residual_scale) {}
  // The same operations in the same order as deploy/conv_step.cpp.
  float pre(float sum, float bias, float factor, const float* residual) const {
    const float v = (sum + bias) * factor;
    return before ? std::fma(residual_scale, *residual, v) : v;
  }
  float post(float pre_value, const float* residual) const {
    const float v = activate<A>(pre_value) * act_scale;
    return after ? std::fma(residual_scale, *residual, v) : v;
  }
  bool before, after;
  float act_scale, residual_scale;
};

template <Activation A>
void forward_rows(const RequantizeForward& p, int64_t begin, int64_t end) {
  const Requantize& f = p.form;
  const Epilogue<A> epilogue(f);
  const float low = f.low, high = f.high;
  const bool round = f.round;
  for (int64_t r = begin; r < end; ++r) {
    const float* sums = f.sums + r * f.channels;
    const float* residual = f.residual != nullptr ? f.residual + r * f.channels : sums;
    float* y = p.y + r * f.channels;
#pragma omp simd
    for (int64_t c = 0; c < f.channels; ++c) {
      const float v =
          epilogue.post(epilogue.pre(sums[c], f.bias[c], f.factor[c], residual + c), residual + c);
      y[c] = round ? clamp(std::nearbyint(v), low, high) : v;
    }
  }
}

// Returns the part of dscale.
template <Activation A>
double backward_rows(const RequantizeBackward& p, int64_t begin, int64_t end) {
  const Requantize& f = p.form;
  const Epilogue<A> epilogue(f);
  const float low = f.low, high = f.high, factor = p.residual_factor;
  const bool round = f.round, before = epilogue.before, wants_scale = p.dscale != nullptr;
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
        const float s = epilogue.post(epilogue.pre(sums[c], f.bias[c], f.factor[c], residual + c),
                                      residual + c);
        const float q = std::nearbyint(s);
        sum += static_cast<double>(dy[c] * (q < low ? low : (q > high ? high : q - s)));
      }
    }
#pragma omp simd
    for (int64_t c = 0; c < f.channels; ++c) {
      const float pre = epilogue.pre(sums[c], f.bias[c], f.factor[c], residual + c);
      const float q = std::nearbyint(epilogue.post(pre, residual + c));
      const float d = !round || (q >= low && q <= high) ? dy[c] : 0.0f;
      const float through = d * activate_grad<A>(pre);
      if (dresidual != nullptr) dresidual[c] = factor * (before ? through : d);
      dv[c] = through;
    }
  }
  return sum;
}

}  // namespace

void requantize_forward(const RequantizeForward& p) {
  const int64_t grain = std::max<int64_t>(1, kBlock / std::max<int64_t>(1, p.form.channels));
  dispatch_activation(p.form.act, [&](auto tag) {
    parallel_for(p.form.rows, grain, [&](int64_t begin, int64_t end) {
      forward_rows<decltype(tag)::value>(p, begin, end);
    });
  });
}

void requantize_backward(const RequantizeBackward& p) {
  const int64_t rows = std::max<int64_t>(1, kBlock / std::max<int64_t>(1, p.form.channels));
  const int64_t blocks = (p.form.rows + rows - 1) / rows;
  std::vector<double> parts(static_cast<size_t>(blocks));
  dispatch_activation(p.form.act, [&](auto tag) {
    parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        parts[static_cast<size_t>(b)] =
            backward_rows<decltype(tag)::value>(p, b * rows, std::min(p.form.rows, (b + 1) * rows));
    });
  });
  if (p.dscale == nullptr) return;
  *p.dscale = 0;
  for (const double part : parts) *p.dscale += part;
}

}  // namespace sextant::kernels::cpu
