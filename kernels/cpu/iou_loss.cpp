#include "kernels/iou_loss.h"

#include <array>
#include <string_view>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/iou_math.h"

namespace sextant::kernels {
namespace {
constexpr std::array<const char*, 9> kNames = {
    "iou", "giou", "diou", "ciou", "siou", "alpha_iou", "alpha_giou", "alpha_diou", "alpha_ciou"};
}

const char* name_of(IouType t) { return kNames[static_cast<size_t>(t)]; }

IouType iou_type_from_name(const std::string& name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == std::string_view(kNames[i])) return static_cast<IouType>(i);
  fail(
      "iou type '{}' is not one of iou, giou, diou, ciou, siou, alpha_iou, alpha_giou, alpha_diou, "
      "alpha_ciou",
      name);
}

namespace cpu {
namespace {

template <class T>
void rows(const IouLoss<T>& p, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
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
}

}  // namespace

template <class T>
void iou_loss(const IouLoss<T>& p) {
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) { rows(p, begin, end); });
}

template void iou_loss(const IouLoss<float>&);
template void iou_loss(const IouLoss<double>&);

}  // namespace cpu
}  // namespace sextant::kernels
