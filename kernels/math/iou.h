// SPDX-License-Identifier: Apache-2.0
// The box similarities of kernels/detection/iou_loss.h, one definition for the CPU and CUDA:
// forward-mode differentiation over the four numbers of the predicted box.
#pragma once

#include <cmath>
#include <numbers>

#include "kernels/detection/iou_loss.h"
#include "kernels/math/activation.h"

namespace sextant::kernels {

// A value and its derivatives by the four numbers of the predicted box.
template <class T>
struct Dual {
  T v = 0;
  T d[4] = {0, 0, 0, 0};
};

namespace dual {

template <class T>
SEXTANT_HD Dual<T> variable(T v, int i) {
  Dual<T> r;
  r.v = v;
  r.d[i] = T(1);
  return r;
}
// f(a) with f'(a) = slope.
template <class T>
SEXTANT_HD Dual<T> chain(T value, T slope, const Dual<T>& a) {
  Dual<T> r;
  r.v = value;
  for (int i = 0; i < 4; ++i) r.d[i] = slope * a.d[i];
  return r;
}
template <class T>
SEXTANT_HD Dual<T> chain(T value, T slope_a, const Dual<T>& a, T slope_b, const Dual<T>& b) {
  Dual<T> r;
  r.v = value;
  for (int i = 0; i < 4; ++i) r.d[i] = slope_a * a.d[i] + slope_b * b.d[i];
  return r;
}
template <class T>
SEXTANT_HD Dual<T> operator+(const Dual<T>& a, const Dual<T>& b) {
  return chain(a.v + b.v, T(1), a, T(1), b);
}
template <class T>
SEXTANT_HD Dual<T> operator-(const Dual<T>& a, const Dual<T>& b) {
  return chain(a.v - b.v, T(1), a, T(-1), b);
}
template <class T>
SEXTANT_HD Dual<T> operator*(const Dual<T>& a, const Dual<T>& b) {
  return chain(a.v * b.v, b.v, a, a.v, b);
}
template <class T>
SEXTANT_HD Dual<T> operator/(const Dual<T>& a, const Dual<T>& b) {
  const T q = a.v / b.v;
  return chain(q, T(1) / b.v, a, -q / b.v, b);
}
template <class T>
SEXTANT_HD Dual<T> operator+(const Dual<T>& a, T b) {
  return chain(a.v + b, T(1), a);
}
template <class T>
SEXTANT_HD Dual<T> operator-(const Dual<T>& a, T b) {
  return chain(a.v - b, T(1), a);
}
template <class T>
SEXTANT_HD Dual<T> operator-(T a, const Dual<T>& b) {
  return chain(a - b.v, T(-1), b);
}
template <class T>
SEXTANT_HD Dual<T> operator*(const Dual<T>& a, T b) {
  return chain(a.v * b, b, a);
}
// Half the slope at a tie.
template <class T>
SEXTANT_HD Dual<T> maximum(const Dual<T>& a, T b) {
  return chain(a.v > b ? a.v : b, a.v > b ? T(1) : (a.v == b ? T(0.5) : T(0)), a);
}
template <class T>
SEXTANT_HD Dual<T> minimum(const Dual<T>& a, T b) {
  return chain(a.v < b ? a.v : b, a.v < b ? T(1) : (a.v == b ? T(0.5) : T(0)), a);
}
template <class T>
SEXTANT_HD Dual<T> positive_part(const Dual<T>& a) {
  return chain(a.v > T(0) ? a.v : T(0), a.v >= T(0) ? T(1) : T(0), a);
}
template <class T>
SEXTANT_HD Dual<T> absolute(const Dual<T>& a) {
  return chain(a.v < T(0) ? -a.v : a.v, a.v > T(0) ? T(1) : (a.v < T(0) ? T(-1) : T(0)), a);
}
template <class T>
SEXTANT_HD Dual<T> square(const Dual<T>& a) {
  return chain(a.v * a.v, T(2) * a.v, a);
}
template <class T>
SEXTANT_HD Dual<T> exponential(const Dual<T>& a) {
  const T e = std::exp(a.v);
  return chain(e, e, a);
}
template <class T>
SEXTANT_HD Dual<T> arctangent(const Dual<T>& a) {
  return chain(static_cast<T>(std::atan(a.v)), T(1) / (T(1) + a.v * a.v), a);
}
// a^e for a >= 0, and 0 without slope where rounding has made a negative.
template <class T>
SEXTANT_HD Dual<T> power(const Dual<T>& a, T e) {
  if (a.v <= T(0)) return e == T(1) ? a : Dual<T>{};
  return chain(static_cast<T>(std::pow(a.v, e)), e * static_cast<T>(std::pow(a.v, e - T(1))), a);
}
// a / b, and 0 without slope where b is 0.
template <class T>
SEXTANT_HD Dual<T> ratio(const Dual<T>& a, const Dual<T>& b) {
  return b.v == T(0) ? Dual<T>{} : a / b;
}

}  // namespace dual

// Two boxes x1 y1 x2 y2, of which one is predicted, and what all the similarities start from.
template <class T>
struct BoxPair {
  const Dual<T>* p;
  const T* t;
  T eps;
  Dual<T> w1, h1;  // predicted
  T w2, h2;
  Dual<T> hull_w, hull_h;
};

// SIoU's distance and shape cost, equations 1-8. The angle cost sin(2 arcsin x) is written as
// 2 a b / (a^2 + b^2) with a, b the centre offsets, which needs no case for which is larger.
template <class T>
SEXTANT_HD Dual<T> siou_cost(const BoxPair<T>& b) {
  using namespace dual;
  const Dual<T> dx = (b.t[0] + b.t[2] - (b.p[0] + b.p[2])) * T(0.5) + b.eps;
  const Dual<T> dy = (b.t[1] + b.t[3] - (b.p[1] + b.p[3])) * T(0.5) + b.eps;
  const Dual<T> angle = ratio(absolute(dx) * absolute(dy) * T(2), square(dx) + square(dy));
  const Dual<T> gamma = angle - T(2);
  const Dual<T> distance = T(2) - (exponential(gamma * square(ratio(dx, b.hull_w))) +
                                   exponential(gamma * square(ratio(dy, b.hull_h))));
  const Dual<T> omega_w = ratio(absolute(b.w1 - b.w2), maximum(b.w1, b.w2));
  const Dual<T> omega_h = ratio(absolute(b.h1 - b.h2), maximum(b.h1, b.h2));
  const Dual<T> shape = square(square(T(1) - exponential(omega_w * T(-1)))) +
                        square(square(T(1) - exponential(omega_h * T(-1))));
  return (distance + shape) * T(0.5);
}

template <class T>
SEXTANT_HD Dual<T> ciou_aspect_cost(const BoxPair<T>& b, T iou) {
  using namespace dual;
  constexpr T kFactor = T(4) / (std::numbers::pi_v<T> * std::numbers::pi_v<T>);
  const T target_angle = std::atan(b.w2 / b.h2);
  const Dual<T> v = square(target_angle - arctangent(ratio(b.w1, b.h1))) * kFactor;
  const T denominator = v.v - iou + (T(1) + b.eps);
  const T a = v.v == T(0) || denominator == T(0) ? T(0) : v.v / denominator;
  return v * a;
}

// The alpha types' plain form, and the power their terms are raised to: 1 for the plain types.
SEXTANT_HD IouType plain_type(IouType type) {
  switch (type) {
    case IouType::kAlphaIoU:
      return IouType::kIoU;
    case IouType::kAlphaGIoU:
      return IouType::kGIoU;
    case IouType::kAlphaDIoU:
      return IouType::kDIoU;
    case IouType::kAlphaCIoU:
      return IouType::kCIoU;
    default:
      return type;
  }
}

// The similarity of the predicted box p and the target t, both x1 y1 x2 y2.
template <class T>
SEXTANT_HD Dual<T> box_similarity(IouType type, const Dual<T>* p, const T* t, T eps, T alpha) {
  using namespace dual;
  const IouType plain = plain_type(type);
  const bool powered = plain != type;
  const auto term = [&](const Dual<T>& x) { return powered ? power(x, alpha) : x; };
  BoxPair<T> b;
  b.p = p;
  b.t = t;
  b.eps = eps;
  b.w1 = p[2] - p[0];
  b.h1 = p[3] - p[1] + eps;
  b.w2 = t[2] - t[0];
  b.h2 = t[3] - t[1] + eps;
  b.hull_w = maximum(p[2], t[2]) - minimum(p[0], t[0]);
  b.hull_h = maximum(p[3], t[3]) - minimum(p[1], t[1]);
  const Dual<T> inter = positive_part(minimum(p[2], t[2]) - maximum(p[0], t[0])) *
                        positive_part(minimum(p[3], t[3]) - maximum(p[1], t[1]));
  const Dual<T> joint = b.w1 * b.h1 + b.w2 * b.h2 - inter + eps;
  const Dual<T> overlap = ratio(inter, joint);
  const Dual<T> iou = term(overlap);
  switch (plain) {
    case IouType::kIoU:
      break;
    case IouType::kGIoU: {
      const Dual<T> hull = b.hull_w * b.hull_h + eps;
      return iou - term(ratio(hull - joint, hull));
    }
    case IouType::kDIoU:
    case IouType::kCIoU: {
      const Dual<T> diagonal = square(b.hull_w) + square(b.hull_h) + eps;
      const Dual<T> centre =
          (square(t[0] + t[2] - (p[0] + p[2])) + square(t[1] + t[3] - (p[1] + p[3]))) * T(0.25);
      const Dual<T> diou = iou - term(ratio(centre, diagonal));
      return plain == IouType::kDIoU ? diou : diou - term(ciou_aspect_cost(b, overlap.v));
    }
    case IouType::kSIoU:
      return iou - siou_cost(b);
    default:
      break;
  }
  return iou;
}

// Loss and gradient of one row.
template <class T>
SEXTANT_HD void iou_loss_row(const IouLoss<T>& p, int64_t r) {
  const T* in = p.pred + 4 * r;
  const T* to = p.target + 4 * r;
  Dual<T> pred[4];
  T target[4];
  if (p.xywh) {
    using namespace dual;
    for (int i = 0; i < 2; ++i) {
      const Dual<T> centre = variable(in[i], i);
      const Dual<T> half = variable(in[i + 2], i + 2) * T(0.5);
      pred[i] = centre - half;
      pred[i + 2] = centre + half;
      target[i] = to[i] - to[i + 2] * T(0.5);
      target[i + 2] = to[i] + to[i + 2] * T(0.5);
    }
  } else {
    for (int i = 0; i < 4; ++i) {
      pred[i] = dual::variable(in[i], i);
      target[i] = to[i];
    }
  }
  const Dual<T> s =
      box_similarity(p.type, pred, target, static_cast<T>(p.eps), static_cast<T>(p.alpha));
  p.loss[r] = T(1) - s.v;
  if (p.grad)
    for (int i = 0; i < 4; ++i) p.grad[4 * r + i] = -s.d[i];
}

}  // namespace sextant::kernels
