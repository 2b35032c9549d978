// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/detection/cls_loss.h"
#include "kernels/detection/dfl.h"
#include "kernels/detection/iou_loss.h"
#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

// |a - b| / (1 + |b|) at its largest.
double worst(const std::vector<double>& a, const std::vector<double>& b) {
  double out = a.size() == b.size() ? 0 : 1e300;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double error = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
    out = std::isnan(error) ? 1e300 : std::max(out, error);
  }
  return out;
}

// --- classes ------------------------------------------------------------------------------------

// The loss of one class as the comment of kernels/detection/cls_loss.h has it.
double class_formula(const ClassLoss& o, double p, bool own, double q) {
  const auto bce = [&](double t) { return -t * std::log(p) - (1 - t) * std::log1p(-p); };
  const double t = own ? q : 0.0;
  switch (o.type) {
    case ClassLossType::kVarifocal:
      return own ? q * bce(q) : o.alpha * std::pow(p, o.gamma) * bce(0);
    case ClassLossType::kFocal:
      return own ? o.alpha * std::pow(1 - p, o.gamma) * bce(1)
                 : (1 - o.alpha) * std::pow(p, o.gamma) * bce(0);
    case ClassLossType::kQualityFocal:
      return std::pow(std::abs(t - p), o.gamma) * bce(t);
    case ClassLossType::kPoly:
      return bce(t) + o.epsilon * (1 - t * p - (1 - t) * (1 - p));
  }
  return 0;
}

double class_loss_on_cpu(ClassLoss o, bool logits) {
  double sum = -1.0;
  o.sum = &sum;
  if (logits)
    host_kernels().class_loss_logits(o);
  else
    host_kernels().class_loss(o);
  return sum;
}

void check_class_loss(TestGpu& gpu, ClassLoss o, bool logits, bool with_grad, int64_t offset) {
  CAPTURE(name_of(o.type), o.rows, o.classes, o.gamma, logits, with_grad, offset);
  const int64_t n = o.rows * o.classes;
  const std::vector<float> pred =
      logits ? random_values(n, 101, -6, 6) : random_values(n, 101, 0.02, 0.98);
  std::vector<int32_t> label;
  std::vector<double> target;
  for (int64_t r = 0; r < o.rows; ++r) {
    label.push_back(r % 3 == 1 ? -1 : static_cast<int32_t>(r * 7 % o.classes));
    target.push_back(0.1 + 0.08 * static_cast<double>(r % 11));
  }
  const std::vector<float> weight = random_values(o.classes, 103, 0.25, 3);
  const bool weighted = offset == 1;
  // Gradients by central differences: independent of the formulas of the kernels.
  double sum_ref = 0;
  std::vector<double> grad_ref;
  for (int64_t i = 0; i < n; ++i) {
    const auto r = static_cast<size_t>(i / o.classes);
    const bool own = i % o.classes == label[r];
    const auto loss = [&](double x) {
      const double scale = weighted ? static_cast<double>(weight[i % o.classes]) : 1.0;
      return scale * class_formula(o, logits ? 1 / (1 + std::exp(-x)) : x, own, target[r]);
    };
    const double x = pred[static_cast<size_t>(i)], h = 1e-5;
    sum_ref += loss(x);
    grad_ref.push_back(o.grad_scale * (loss(x + h) - loss(x - h)) / (2 * h));
  }
  std::vector<float> grad_cpu = undefined(n);
  o.pred = pred.data();
  o.label = label.data();
  o.target = target.data();
  if (weighted) o.class_weights = weight.data();
  o.grad = with_grad ? grad_cpu.data() : nullptr;
  const double sum_cpu = class_loss_on_cpu(o, logits);

  const DeviceArray pd(gpu, pred, offset), grad(gpu, undefined(n)), wd(gpu, weight);
  const DeviceArrayOf<int32_t> ld(gpu, label);
  const DeviceArrayOf<double> td(gpu, target), sum(gpu, {-1.0});
  o.pred = pd.data();
  o.label = ld.data();
  o.target = td.data();
  if (weighted) o.class_weights = wd.data();
  o.grad = with_grad ? grad.data() : nullptr;
  o.sum = sum.data();
  start(gpu, logits ? cuda::class_loss_logits : cuda::class_loss, o);
  const double tolerance = logits ? 1e-6 : 1e-10;
  CHECK(std::abs(sum.values()[0] - sum_ref) <= tolerance * sum_ref);
  CHECK(std::abs(sum.values()[0] - sum_cpu) <= tolerance * sum_ref);
  if (with_grad) {
    CHECK(worst_error(grad.values(), grad_ref) < 1e-6);
    CHECK(worst_error(grad.values(), grad_cpu) < 1e-6);
  } else {
    grad.require_unchanged();
  }
  pd.require_unchanged();
  ld.require_unchanged();
  td.require_unchanged();
}

// Probabilities 0 and 1, logits of +-100: clamped or exact, and finite.
void check_class_extremes(TestGpu& gpu, ClassLossType type, bool logits) {
  CAPTURE(name_of(type), logits);
  const std::vector<float> pred = logits ? std::vector<float>{-100, 100, 0, 100, -100, 0}
                                         : std::vector<float>{0, 1, 0.5, 1, 0, 1};
  const std::vector<int32_t> label = {0, 2};
  const std::vector<double> target = {1.0, 0.0};
  std::vector<float> grad_cpu = undefined(6);
  ClassLoss o;
  o.type = type;
  o.rows = 2;
  o.classes = 3;
  o.pred = pred.data();
  o.label = label.data();
  o.target = target.data();
  o.grad = grad_cpu.data();
  const double sum_cpu = class_loss_on_cpu(o, logits);
  const DeviceArray pd(gpu, pred), grad(gpu, undefined(6));
  const DeviceArrayOf<int32_t> ld(gpu, label);
  const DeviceArrayOf<double> td(gpu, target), sum(gpu, {-1.0});
  o.pred = pd.data();
  o.label = ld.data();
  o.target = td.data();
  o.grad = grad.data();
  o.sum = sum.data();
  start(gpu, logits ? cuda::class_loss_logits : cuda::class_loss, o);
  CHECK(std::isfinite(sum_cpu));
  CHECK(std::abs(sum.values()[0] - sum_cpu) <= 1e-6 * (1 + sum_cpu));
  CHECK(worst_error(grad.values(), grad_cpu) < 1e-6);
}

// A divisor in the kernel's memory, and no targets: as with those numbers beforehand.
void check_class_divisor(TestGpu& gpu, ClassLossType type) {
  CAPTURE(name_of(type));
  constexpr int64_t kRows = 33, kClasses = 17;
  const std::vector<float> pred = random_values(kRows * kClasses, 102, -6, 6);
  std::vector<int32_t> label;
  for (int32_t r = 0; r < kRows; ++r) label.push_back(r % 3 == 1 ? -1 : r % kClasses);
  const std::vector<double> ones(kRows, 1.0), divisor = {2.5};
  std::vector<float> grad_ref = undefined(kRows * kClasses), grad_cpu = grad_ref;
  ClassLoss o;
  o.type = type;
  o.rows = kRows;
  o.classes = kClasses;
  o.pred = pred.data();
  o.label = label.data();
  o.target = ones.data();
  o.grad = grad_ref.data();
  o.grad_scale = 0.7 / 2.5;
  const double sum_ref = class_loss_on_cpu(o, true);
  o.target = nullptr;
  o.grad_scale = 0.7;
  o.divisor = divisor.data();
  o.grad = grad_cpu.data();
  CHECK(class_loss_on_cpu(o, true) == sum_ref);
  CHECK(worst_error(grad_cpu, grad_ref) == 0);
  const DeviceArray pd(gpu, pred), grad(gpu, undefined(kRows * kClasses));
  const DeviceArrayOf<int32_t> ld(gpu, label);
  const DeviceArrayOf<double> dd(gpu, divisor), sum(gpu, {-1.0});
  o.pred = pd.data();
  o.label = ld.data();
  o.divisor = dd.data();
  o.grad = grad.data();
  o.sum = sum.data();
  start(gpu, cuda::class_loss_logits, o);
  CHECK(std::abs(sum.values()[0] - sum_ref) <= 1e-6 * sum_ref);
  CHECK(worst_error(grad.values(), grad_ref) < 1e-6);
}

// --- boxes --------------------------------------------------------------------------------------

template <class T>
struct IouResult {
  std::vector<T> loss, grad;
};

template <class T>
IouResult<T> iou_on_cpu(IouLoss<T> o, const std::vector<T>& pred, const std::vector<T>& target) {
  IouResult<T> r{std::vector<T>(pred.size() / 4), std::vector<T>(pred.size())};
  o.pred = pred.data();
  o.target = target.data();
  o.loss = r.loss.data();
  o.grad = r.grad.data();
  host_kernels().iou_loss(o);
  return r;
}

template <class T>
void check_iou(TestGpu& gpu, IouType type, int64_t rows, bool xywh, int64_t offset,
               double tolerance) {
  CAPTURE(name_of(type), rows, xywh, offset, sizeof(T));
  IouLoss<T> o;
  o.rows = rows;
  o.type = type;
  o.xywh = xywh;
  const std::vector<float> corner = random_values(4 * rows, 111, 0, 20),
                           size = random_values(4 * rows, 112, 2, 30);
  std::vector<T> pred, target;
  std::vector<double> pred_wide, target_wide;
  for (size_t i = 0; i < static_cast<size_t>(4 * rows); ++i) {
    const bool second = i % 4 >= 2;
    const auto box = [&](const std::vector<float>& a, const std::vector<float>& b) {
      return !second ? a[i] : (xywh ? b[i] : a[i - 2] + b[i]);
    };
    pred.push_back(box(corner, size));
    target.push_back(box(size, corner) + (second ? 5.0f : 0.0f));
    pred_wide.push_back(static_cast<double>(pred.back()));
    target_wide.push_back(static_cast<double>(target.back()));
  }
  IouLoss<double> wide;
  wide.rows = rows;
  wide.type = type;
  wide.xywh = xywh;
  const IouResult<double> ref = iou_on_cpu(wide, pred_wide, target_wide);
  const IouResult<T> twin = iou_on_cpu(o, pred, target);

  const std::vector<T> nothing(pred.size(), std::nan(""));
  const DeviceArrayOf<T> pd(gpu, pred, offset), td(gpu, target),
      loss(gpu, std::vector<T>(static_cast<size_t>(rows), std::nan(""))),
      alone(gpu, std::vector<T>(static_cast<size_t>(rows), std::nan(""))), grad(gpu, nothing);
  o.pred = pd.data();
  o.target = td.data();
  o.loss = loss.data();
  o.grad = grad.data();
  start<IouLoss<T>>(gpu, cuda::iou_loss, o);
  o.loss = alone.data();
  o.grad = nullptr;
  start<IouLoss<T>>(gpu, cuda::iou_loss, o);
  const auto wide_of = [](const std::vector<T>& x) {
    return std::vector<double>(x.begin(), x.end());
  };
  CHECK(worst(wide_of(loss.values()), ref.loss) < tolerance);
  CHECK(worst(wide_of(grad.values()), ref.grad) < tolerance);
  CHECK(worst(wide_of(loss.values()), wide_of(twin.loss)) < tolerance);
  CHECK(worst(wide_of(grad.values()), wide_of(twin.grad)) < tolerance);
  CHECK(alone.values() == loss.values());
  pd.require_unchanged();
  td.require_unchanged();
}

// --- distributions ------------------------------------------------------------------------------

template <class T>
void check_expectation(TestGpu& gpu, int64_t rows, int64_t bins, bool with_prob, double tolerance) {
  CAPTURE(rows, bins, with_prob, sizeof(T));
  const std::vector<float> logits = random_values(rows * bins, 121, -8, 8);
  std::vector<double> prob_ref, mean_ref;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0, moment = 0;
    for (int64_t k = 0; k < bins; ++k)
      sum += std::exp(double{logits[static_cast<size_t>(r * bins + k)]});
    for (int64_t k = 0; k < bins; ++k) {
      prob_ref.push_back(std::exp(double{logits[static_cast<size_t>(r * bins + k)]}) / sum);
      moment += prob_ref.back() * static_cast<double>(k);
    }
    mean_ref.push_back(moment);
  }
  std::vector<T> prob_cpu(prob_ref.size()), mean_cpu(mean_ref.size());
  host_kernels().expectation(
      Expectation<T>{logits.data(), prob_cpu.data(), mean_cpu.data(), rows, bins});
  const DeviceArray ld(gpu, logits, 1);
  const DeviceArrayOf<T> prob(gpu, std::vector<T>(prob_ref.size(), std::nan(""))),
      mean(gpu, std::vector<T>(mean_ref.size(), std::nan("")));
  start<Expectation<T>>(gpu, cuda::expectation,
                        {ld.data(), with_prob ? prob.data() : nullptr, mean.data(), rows, bins});
  const auto wide_of = [](const std::vector<T>& x) {
    return std::vector<double>(x.begin(), x.end());
  };
  CHECK(worst(wide_of(mean.values()), mean_ref) < tolerance);
  CHECK(worst(wide_of(mean.values()), wide_of(mean_cpu)) < tolerance);
  if (with_prob) {
    CHECK(worst(wide_of(prob.values()), prob_ref) < tolerance);
    CHECK(worst(wide_of(prob.values()), wide_of(prob_cpu)) < tolerance);
  } else {
    prob.require_unchanged();
  }
  ld.require_unchanged();
}

void check_dfl(TestGpu& gpu, int64_t rows, int64_t reg_max, bool with_grad) {
  CAPTURE(rows, reg_max, with_grad);
  const int64_t bins = reg_max + 1;
  const std::vector<float> logits = random_values(4 * rows * bins, 131, -8, 8);
  std::vector<double> target, scale;
  for (int64_t i = 0; i < 4 * rows; ++i)
    target.push_back(i % 5 == 0 ? static_cast<double>(i % reg_max)  // a bin itself
                                : (static_cast<double>(reg_max) - 0.01) *
                                      static_cast<double>(i * 13 % 101) / 100.0);
  for (int64_t r = 0; r < rows; ++r) scale.push_back(0.5 + static_cast<double>(r % 4));
  std::vector<double> loss_ref(static_cast<size_t>(rows), 0.0), grad_ref;
  for (int64_t side = 0; side < 4 * rows; ++side) {
    const double t = target[static_cast<size_t>(side)];
    const auto z = [&](int64_t k) { return double{logits[static_cast<size_t>(side * bins + k)]}; };
    double sum = 0;
    for (int64_t k = 0; k < bins; ++k) sum += std::exp(z(k));
    for (int64_t k = 0; k < bins; ++k) {
      // The two bins around t share it: the hat function.
      const double weight = std::max(0.0, 1 - std::abs(t - static_cast<double>(k)));
      const double p = std::exp(z(k)) / sum;
      loss_ref[static_cast<size_t>(side / 4)] -= 0.25 * weight * std::log(p);
      grad_ref.push_back(0.25 * scale[static_cast<size_t>(side / 4)] * (p - weight));
    }
  }
  std::vector<double> loss_cpu(loss_ref.size()), grad_cpu(grad_ref.size());
  host_kernels().dfl_loss({logits.data(), target.data(), scale.data(), loss_cpu.data(),
                           grad_cpu.data(), rows, reg_max});
  const DeviceArray ld(gpu, logits, 1);
  const DeviceArrayOf<double> td(gpu, target), sd(gpu, scale),
      loss(gpu, std::vector<double>(loss_ref.size(), std::nan(""))),
      grad(gpu, std::vector<double>(grad_ref.size(), std::nan("")));
  start(gpu, cuda::dfl_loss,
        {ld.data(), td.data(), sd.data(), loss.data(), with_grad ? grad.data() : nullptr, rows,
         reg_max});
  CHECK(worst(loss.values(), loss_ref) < 1e-12);
  CHECK(worst(loss.values(), loss_cpu) < 1e-12);
  if (with_grad) {
    CHECK(worst(grad.values(), grad_ref) < 1e-12);
    CHECK(worst(grad.values(), grad_cpu) < 1e-12);
  } else {
    grad.require_unchanged();
  }
  ld.require_unchanged();
  td.require_unchanged();
}

}  // namespace

// Losses and gradients of classes, boxes and distributions.
KERNEL_CASE("classification loss kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const auto type : {ClassLossType::kVarifocal, ClassLossType::kFocal,
                            ClassLossType::kQualityFocal, ClassLossType::kPoly})
      for (const bool logits : {false, true}) {
        ClassLoss o;
        o.type = type;
        o.grad_scale = 0.7;
        for (const int64_t classes : {1, 3, 17, 68, 80})
          for (const int64_t rows : {0, 1, 33, 129}) {
            o.rows = rows;
            o.classes = classes;
            check_class_loss(gpu, o, logits, true, rows % 2);
          }
        o.gamma = 1.5;
        check_class_loss(gpu, o, logits, true, 0);
        check_class_loss(gpu, o, logits, false, 1);
        check_class_extremes(gpu, type, logits);
        if (logits) check_class_divisor(gpu, type);
      }
  }
}

KERNEL_CASE("IoU loss kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (int type = 0; type <= static_cast<int>(IouType::kAlphaCIoU); ++type)
      for (const int64_t rows : {0, 1, 3, 17, 300})
        for (const bool xywh : {false, true}) {
          check_iou<float>(gpu, static_cast<IouType>(type), rows, xywh, rows % 2, 2e-5);
          check_iou<double>(gpu, static_cast<IouType>(type), rows, xywh, 0, 1e-12);
        }
  }
}

KERNEL_CASE("distribution kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t rows : {0, 1, 3, 33, 300}) {
      for (const int64_t bins : {1, 17, 32})
        for (const bool with_prob : {false, true}) {
          check_expectation<float>(gpu, rows, bins, with_prob, 2e-6);
          check_expectation<double>(gpu, rows, bins, with_prob, 1e-13);
        }
      for (const int64_t reg_max : {1, 16})
        for (const bool with_grad : {false, true}) check_dfl(gpu, rows, reg_max, with_grad);
    }
    CHECK(error_of([&] {
            start<Expectation<double>>(gpu, cuda::expectation, {nullptr, nullptr, nullptr, 1, 49});
          }) == "expectation: 49 bins, must be 1 to 48");
  }
}

}  // namespace sextant::test
