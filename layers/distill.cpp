// SPDX-License-Identifier: Apache-2.0
#include "layers/distill.h"

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
  p.sum = sum.data<double>();
  backend.kl_div(p);
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

Variable score_distillation(const std::vector<Variable>& student,
                            const std::vector<Tensor>& teacher, double temperature) {
  check(student.size() == teacher.size() && !student.empty() &&
            student.size() <= kernels::kMaxScoreMaps,
        "score_distillation: {} maps of the student, {} of the teacher, expected 1 to {} of each",
        student.size(), teacher.size(), kernels::kMaxScoreMaps);
  check(temperature > 0.0, "score_distillation: temperature {} is not positive", temperature);
  const kernels::Backend& backend = kernels_for("score_distillation", student[0], student, teacher);
  const bool differentiate = needs_grad(student);
  std::vector<Tensor> grads;
  kernels::BernoulliKl p;
  p.temperature = temperature;
  for (size_t l = 0; l < student.size(); ++l) {
    check(teacher[l].defined() && teacher[l].shape() == student[l].shape(),
          "score_distillation: student {} and teacher {} of level {}", student[l].shape().str(),
          teacher[l].defined() ? teacher[l].shape().str() : std::string("undefined"), l);
    if (differentiate) grads.push_back(like(teacher[l]));
    p.map[p.maps++] = {student[l].f32(), teacher[l].f32(), differentiate ? grads[l].f32() : nullptr,
                       teacher[l].numel()};
  }
  const Tensor value = like(teacher[0], Shape{1}), factor = like(value);
  p.loss = value.f32();
  p.factor = factor.f32();
  backend.bernoulli_kl(p);
  return make_result("score_distillation", value, student,
                     [grads, factor](const Tensor& dy, const std::vector<bool>&) {
                       // This runs once, so the gradients can be scaled in place.
                       on(factor).add_scaled({.a = factor.f32(),
                                              .b = factor.f32(),
                                              .y = factor.f32(),
                                              .n = 1,
                                              .beta = 0.0f,
                                              .alpha_at = dy.f32()});
                       kernels::ScaleGradients all;
                       for (const Tensor& g : grads) {
                         all.x[all.count] = g.f32();
                         all.n[all.count++] = g.numel();
                       }
                       all.factor = factor.f32();
                       on(factor).scale_gradients(all);
                       return grads;
                     });
}

}  // namespace sextant
