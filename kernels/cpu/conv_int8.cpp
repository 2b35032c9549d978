// The contract of kernels/conv_int8.h in plain loops: what defines the results, not a fast path
// (deploy/conv_step.h runs oneDNN).
#include "kernels/conv_int8.h"

#include <cmath>
#include <vector>

#include "core/parallel.h"

namespace sextant::kernels::cpu {
namespace {

template <class T>
T stored(float v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    constexpr float kLow = std::is_signed_v<T> ? -128.0f : 0.0f;
    constexpr float kHigh = std::is_signed_v<T> ? 127.0f : 255.0f;
    v = std::nearbyint(v);
    return static_cast<T>(v < kLow ? kLow : (v > kHigh ? kHigh : v));
  }
}

template <class X>
int32_t sum_at(const ConvInt8Forward& p, int64_t pixel, int64_t o) {
  const ConvShape& s = p.shape;
  const int64_t pitch = p.x_pitch ? p.x_pitch : s.ic;
  const int64_t ox = pixel % s.ow(), oy = pixel / s.ow() % s.oh(), n = pixel / s.ow() / s.oh();
  int32_t sum = 0;
  for (int64_t ty = 0; ty < s.kh; ++ty)
    for (int64_t tx = 0; tx < s.kw; ++tx) {
      const int64_t y = oy * s.stride - s.pad + ty, x = ox * s.stride - s.pad + tx;
      if (y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
      const X* in = static_cast<const X*>(p.x) + ((n * s.h + y) * s.w + x) * pitch;
      const int8_t* w = p.w + ((o * s.kh + ty) * s.kw + tx) * s.ic;
      for (int64_t c = 0; c < s.ic; ++c) sum += int32_t{in[c]} * w[c];
    }
  return sum;
}

template <class X, class Y>
void forward(const ConvInt8Forward& p) {
  const ConvShape& s = p.shape;
  const int64_t y_pitch = p.y_pitch ? p.y_pitch : s.oc;
  const int64_t r_pitch = p.residual_pitch ? p.residual_pitch : s.oc;
  dispatch_activation(p.act, [&](auto act) {
    parallel_for(s.n * s.oh() * s.ow(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t pixel = begin; pixel < end; ++pixel)
        for (int64_t o = 0; o < s.oc; ++o) {
          float v = static_cast<float>(sum_at<X>(p, pixel, o));
          if (p.bias) v = v + p.bias[o];
          v = v * p.factor[o];
          const float r =
              p.residual
                  ? static_cast<float>(static_cast<const Y*>(p.residual)[pixel * r_pitch + o])
                  : 0.0f;
          if (p.residual && p.residual_before_activation) v = std::fma(p.residual_scale, r, v);
          v = activate<decltype(act)::value>(v) * p.activation_scale;
          if (p.residual && !p.residual_before_activation) v = std::fma(p.residual_scale, r, v);
          static_cast<Y*>(p.y)[pixel * y_pitch + o] = stored<Y>(v);
        }
    });
  });
}

template <class X>
void from(const ConvInt8Forward& p) {
  if (p.y_type == DType::kI8) return forward<X, int8_t>(p);
  if (p.y_type == DType::kU8) return forward<X, uint8_t>(p);
  check(p.y_type == DType::kF32, "conv_int8_forward: y is {}, must be I8, U8 or F32",
        name_of(p.y_type));
  forward<X, float>(p);
}

}  // namespace

void conv_int8_forward(const ConvInt8Forward& p) {
  check(p.shape.groups == 1, "conv_int8_forward: {} groups, must be 1", p.shape.groups);
  if (p.x_type == DType::kI8) return from<int8_t>(p);
  check(p.x_type == DType::kU8, "conv_int8_forward: x is {}, must be I8 or U8", name_of(p.x_type));
  from<uint8_t>(p);
}

}  // namespace sextant::kernels::cpu
