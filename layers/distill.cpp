#include "layers/distill.h"

#include <cmath>

#include "core/parallel.h"
#include "layers/placement.h"

namespace sextant {

Variable channel_wise_distillation(const Variable& student, const Tensor& teacher,
                                   double temperature) {
  const Shape& s = student.shape();
  check(s.rank() == 4 && teacher.defined() && teacher.shape() == s && s.numel() > 0,
        "channel_wise_distillation: student {} and teacher {}, expected the same [N,H,W,C]",
        s.str(), teacher.defined() ? teacher.shape().str() : std::string("undefined"));
  check(temperature > 0.0, "channel_wise_distillation: temperature {} is not positive",
        temperature);
  const kernels::Backend& backend = kernels_for("channel_wise_distillation", student, teacher);
  const Tensor grad = needs_grad({student}) ? like(teacher) : Tensor();
  kernels::KlDiv p;
  p.student = student.f32();
  p.teacher = teacher.f32();
  p.grad = grad.defined() ? grad.f32() : nullptr;
  p.outer = s[0];
  p.axis = s[1] * s[2];
  p.inner = s[3];
  p.temperature = temperature;
  const double scale = 1.0 / static_cast<double>(s[0] * s[3]);
  p.grad_scale = scale;
  const Tensor sum(Shape{1}, DType::kF64, teacher.device()), value = like(teacher, Shape{1});
  backend.kl_div(p, sum.data<double>());
  backend.cast({sum.raw(), DType::kF64, value.raw(), DType::kF32, 1});
  backend.add_scaled({value.f32(), value.f32(), value.f32(), 1, static_cast<float>(scale), 0.0f});
  return make_result("channel_wise_distillation", value, {student},
                     [grad](const Tensor& dy, const std::vector<bool>&) {
                       // This runs once, so the gradient can be scaled in place.
                       on(grad).add_scaled({.a = grad.f32(),
                                            .b = grad.f32(),
                                            .y = grad.f32(),
                                            .n = grad.numel(),
                                            .beta = 0.0f,
                                            .alpha_at = dy.f32()});
                       return std::vector<Tensor>{grad};
                     });
}

namespace {

struct ScoreSums {
  double divergence = 0, teacher = 0;
};

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// One map; grad, unless null, is by the student over T^2.
ScoreSums score_divergence(const float* student, const float* teacher, int64_t n, double inverse,
                           float* grad) {
  constexpr int64_t kBlock = 4096;
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  std::vector<ScoreSums> parts(static_cast<size_t>(blocks));
  parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b)
      for (int64_t i = b * kBlock; i < std::min(n, (b + 1) * kBlock); ++i) {
        const double x = student[i] * inverse, y = teacher[i] * inverse;
        const double t = 1.0 / (1.0 + std::exp(-y));
        ScoreSums& part = parts[static_cast<size_t>(b)];
        part.divergence += (softplus(x) - t * x) - (softplus(y) - t * y);
        part.teacher += t;
        if (grad != nullptr)
          grad[i] = static_cast<float>((1.0 / (1.0 + std::exp(-x)) - t) * inverse);
      }
  });
  ScoreSums sums;
  for (const ScoreSums& part : parts) {
    sums.divergence += part.divergence;
    sums.teacher += part.teacher;
  }
  return sums;
}

}  // namespace

Variable score_distillation(const std::vector<Variable>& student,
                            const std::vector<Tensor>& teacher, double temperature) {
  check(student.size() == teacher.size() && !student.empty(),
        "score_distillation: {} maps of the student, {} of the teacher", student.size(),
        teacher.size());
  check(temperature > 0.0, "score_distillation: temperature {} is not positive", temperature);
  const bool differentiate = needs_grad(student);
  std::vector<Tensor> grads;
  ScoreSums sums;
  for (size_t l = 0; l < student.size(); ++l) {
    check(teacher[l].defined() && teacher[l].shape() == student[l].shape(),
          "score_distillation: student {} and teacher {} of level {}", student[l].shape().str(),
          teacher[l].defined() ? teacher[l].shape().str() : std::string("undefined"), l);
    check(student[l].data().device() == Device::kCpu && teacher[l].device() == Device::kCpu,
          "score_distillation: maps on {} and {}, expected cpu",
          name_of(student[l].data().device()), name_of(teacher[l].device()));
    if (differentiate) grads.emplace_back(student[l].shape());
    const ScoreSums s =
        score_divergence(student[l].f32(), teacher[l].f32(), teacher[l].numel(), 1.0 / temperature,
                         differentiate ? grads[l].f32() : nullptr);
    sums.divergence += s.divergence;
    sums.teacher += s.teacher;
  }
  const double factor = temperature * temperature / std::max(1.0, sums.teacher);
  const Tensor value = Tensor::full(Shape{1}, static_cast<float>(factor * sums.divergence));
  return make_result("score_distillation", value, student,
                     [grads, factor](const Tensor& dy, const std::vector<bool>&) {
                       for (const Tensor& g : grads)  // this runs once
                         on(g).add_scaled({g.f32(), g.f32(), g.f32(), g.numel(),
                                           static_cast<float>(dy.item() * factor), 0.0f});
                       return grads;
                     });
}

}  // namespace sextant
