// SPDX-License-Identifier: Apache-2.0
// Box losses of the IoU family, 1 - similarity, with their gradient:
//
//   iou   u                                                            (UnitBox, Yu et al. 2016)
//   giou  u - (hull - union) / hull                        (Rezatofighi et al. 2019, equation 2)
//   diou  u - rho^2 / c^2                                            (Zheng et al. 2020, eq. 7)
//   ciou  u - rho^2 / c^2 - a v, a held constant in the gradient    (Zheng et al. 2020, eq. 8-11)
//   siou  u - (distance cost + shape cost) / 2                          (SIoU, Gevorgyan 2022)
//
// and, for all but siou, with every term raised to the power `alpha` (alpha-IoU, He et al. 2021,
// equations 3-4): alpha_iou u^alpha, alpha_giou u^alpha - ((hull - union) / hull)^alpha,
// alpha_diou u^alpha - (rho^2 / c^2)^alpha, alpha_ciou that - (a v)^alpha.
//
// eps as the official yolov6/utils/figure_iou.py has it: added to both heights (not the widths), to
// the union, the hull, c^2, and for siou to both centre offsets. Where that gives 0/0 (siou of two
// boxes of zero width, ciou of equal boxes in float32) the term in question is 0 here, so losses
// and gradients are finite for all finite boxes of moderate size.
// Subgradients are PyTorch's: half to each side where min or max tie, 0 for |x| at 0, 1 for
// max(x, 0) at 0.
#pragma once

#include <cstdint>

#include "core/enum_names.h"

namespace sextant::kernels {

enum class IouType : int {
  kIoU,
  kGIoU,
  kDIoU,
  kCIoU,
  kSIoU,
  kAlphaIoU,
  kAlphaGIoU,
  kAlphaDIoU,
  kAlphaCIoU
};
constexpr auto enum_names(IouType) {
  return make_enum_names<IouType>("IoU type", {{IouType::kIoU, "iou"},
                                               {IouType::kGIoU, "giou"},
                                               {IouType::kDIoU, "diou"},
                                               {IouType::kCIoU, "ciou"},
                                               {IouType::kSIoU, "siou"},
                                               {IouType::kAlphaIoU, "alpha_iou"},
                                               {IouType::kAlphaGIoU, "alpha_giou"},
                                               {IouType::kAlphaDIoU, "alpha_diou"},
                                               {IouType::kAlphaCIoU, "alpha_ciou"}});
}

template <class T>  // float or double
struct IouLoss {
  const T* pred = nullptr;    // [rows,4] x1 y1 x2 y2
  const T* target = nullptr;  // [rows,4]
  T* loss = nullptr;          // [rows]
  T* grad = nullptr;          // [rows,4]: d loss[r] / d pred[r]; may be null
  int64_t rows = 0;
  IouType type = IouType::kGIoU;
  double eps = 1e-10;
  double alpha = 3.0;  // at least 1; the alpha types only
  bool xywh = false;   // boxes are cx cy w h instead
};

}  // namespace sextant::kernels
