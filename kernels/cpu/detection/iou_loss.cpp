#include "kernels/detection/iou_loss.h"

#include <array>
#include <string_view>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/cpu/namespace.h"
#include "kernels/math/iou.h"

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

namespace SEXTANT_CPU {
namespace {

template <class T>
void each_row(const IouLoss<T>& p) {
  parallel_for(p.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) iou_loss_row(p, r);
  });
}

}  // namespace

void iou_loss(const IouLoss<float>& p) { each_row(p); }
void iou_loss(const IouLoss<double>& p) { each_row(p); }

}  // namespace SEXTANT_CPU
}  // namespace sextant::kernels
