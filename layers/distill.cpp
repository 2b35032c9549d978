#include "layers/distill.h"

#include "kernels/elementwise.h"
#include "kernels/kl_div.h"

namespace sextant {

Variable channel_wise_distillation(const Variable& student, const Tensor& teacher,
                                   double temperature) {
  const Shape& s = student.shape();
  check(s.rank() == 4 && teacher.defined() && teacher.shape() == s && s.numel() > 0,
        "channel_wise_distillation: student {} and teacher {}, expected the same [N,H,W,C]",
        s.str(), teacher.defined() ? teacher.shape().str() : std::string("undefined"));
  check(temperature > 0.0, "channel_wise_distillation: temperature {} is not positive",
        temperature);
  const Tensor grad = needs_grad({student}) ? Tensor(s) : Tensor();
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
  const auto value = static_cast<float>(scale * kernels::cpu::kl_div(p));
  return make_result("channel_wise_distillation", Tensor::full(Shape{1}, value), {student},
                     [grad](const Tensor& dy, const std::vector<bool>&) {
                       // This runs once, so the gradient can be scaled in place.
                       kernels::cpu::add_scaled({grad.f32(), grad.f32(), grad.f32(), grad.numel(),
                                                 static_cast<float>(dy.item()), 0.0f});
                       return std::vector<Tensor>{grad};
                     });
}

}  // namespace sextant
