// SPDX-License-Identifier: Apache-2.0
// The kernels of a device, as called by layers and everything above.
//
//   const kernels::Backend& on = kernels::backend(x.device());
//   on.conv_forward({shape, x.f32(), w.f32(), nullptr, y.f32()});
//
// To add a kernel: put its parameters and contract into a header of kernels/, its name into the
// list below, its definitions into kernels/cpu and kernels/cuda. The list generates the rest: the
// method, the declarations, and the forwarding of both backends.
#pragma once

#include "core/device.h"
#include "kernels/augment.h"
#include "kernels/branch_sum.h"
#include "kernels/cast.h"
#include "kernels/conv.h"
#include "kernels/conv_int8.h"
#include "kernels/detection/anchor_boxes.h"
#include "kernels/detection/anchors.h"
#include "kernels/detection/assign.h"
#include "kernels/detection/atss.h"
#include "kernels/detection/bernoulli_kl.h"
#include "kernels/detection/box_loss.h"
#include "kernels/detection/box_maps.h"
#include "kernels/detection/cls_loss.h"
#include "kernels/detection/decode.h"
#include "kernels/detection/dfl.h"
#include "kernels/detection/iou_loss.h"
#include "kernels/detection/kl_div.h"
#include "kernels/detection/loss_targets.h"
#include "kernels/detection/nms.h"
#include "kernels/detection/simota.h"
#include "kernels/detection/total_loss.h"
#include "kernels/elementwise.h"
#include "kernels/fake_quant.h"
#include "kernels/histogram.h"
#include "kernels/linear.h"
#include "kernels/optimizer.h"
#include "kernels/pool.h"
#include "kernels/rep_bn_act.h"
#include "kernels/requantize.h"
#include "kernels/strided.h"

// KERNEL(name, parameters) for each kernel. Pointers in the parameters point to memory of the
// backend's device, unless documented otherwise.
#define SEXTANT_KERNELS(KERNEL)                          \
  /* conv.h, conv_int8.h, linear.h */                    \
  KERNEL(conv_forward, ConvForward)                      \
  KERNEL(conv_backward_data, ConvBackwardData)           \
  KERNEL(conv_backward_weight, ConvBackwardWeight)       \
  KERNEL(conv_int8_forward, ConvInt8Forward)             \
  KERNEL(conv_transpose_forward, ConvTransposeForward)   \
  KERNEL(conv_transpose_backward, ConvTransposeBackward) \
  KERNEL(linear_forward, LinearForward)                  \
  KERNEL(linear_backward, LinearBackward)                \
  /* rep_bn_act.h, branch_sum.h */                       \
  KERNEL(rep_bn_act_forward, RepBnActForward)            \
  KERNEL(rep_bn_act_backward, RepBnActBackward)          \
  KERNEL(branch_sum, BranchSum)                          \
  KERNEL(channel_dot, ChannelDot)                        \
  /* elementwise.h, cast.h */                            \
  KERNEL(act_forward, ActForward)                        \
  KERNEL(act_backward, ActBackward)                      \
  KERNEL(add_scaled, AddScaled)                          \
  KERNEL(cast, Cast)                                     \
  /* pool.h */                                           \
  KERNEL(max_pool_forward, MaxPoolForward)               \
  KERNEL(max_pool_backward, MaxPoolBackward)             \
  KERNEL(chained_max_pools, ChainedMaxPools)             \
  KERNEL(average_pool, AveragePool)                      \
  KERNEL(upsample_forward, Upsample)                     \
  KERNEL(upsample_backward, Upsample)                    \
  KERNEL(copy_channels, CopyChannels)                    \
  KERNEL(bytes_to_float, BytesToFloat)                   \
  /* strided.h */                                        \
  KERNEL(copy_strided, CopyStrided)                      \
  KERNEL(depth_to_space, DepthToSpace)                   \
  KERNEL(upsample_strided, UpsampleStrided)              \
  KERNEL(gather_channels, GatherChannels)                \
  KERNEL(max_pool_strided, MaxPoolStrided)               \
  KERNEL(average_pool_strided, AveragePoolStrided)       \
  KERNEL(multiply_strided, MultiplyStrided)              \
  KERNEL(add_strided, AddStrided)                        \
  KERNEL(convert_strided, ConvertStrided)                \
  KERNEL(global_average_strided, GlobalAverageStrided)   \
  KERNEL(softmax_strided, SoftmaxStrided)                \
  /* fake_quant.h, requantize.h, histogram.h */          \
  KERNEL(fake_quant_forward, FakeQuantForward)           \
  KERNEL(fake_quant_backward, FakeQuantBackward)         \
  KERNEL(quantize_forward, QuantizeForward)              \
  KERNEL(quantize_backward, QuantizeBackward)            \
  KERNEL(dequantize, Dequantize)                         \
  KERNEL(fold_scales, FoldScales)                        \
  KERNEL(requantize_forward, RequantizeForward)          \
  KERNEL(requantize_backward, RequantizeBackward)        \
  KERNEL(abs_max, AbsMax)                                \
  KERNEL(count_bins, CountBins)                          \
  /* detection/: losses */                               \
  KERNEL(kl_div, KlDiv)                                  \
  KERNEL(bernoulli_kl, BernoulliKl)                      \
  KERNEL(class_loss, ClassLoss)                          \
  KERNEL(class_loss_logits, ClassLoss)                   \
  KERNEL(iou_loss, IouLoss<float>)                       \
  KERNEL(iou_loss, IouLoss<double>)                      \
  KERNEL(expectation, Expectation<float>)                \
  KERNEL(expectation, Expectation<double>)               \
  KERNEL(dfl_loss, DflLoss)                              \
  KERNEL(loss_targets, LossTargets)                      \
  KERNEL(decode_boxes, DecodeBoxes)                      \
  KERNEL(box_loss, BoxLoss)                              \
  KERNEL(total_loss, TotalLoss)                          \
  KERNEL(scale_gradients, ScaleGradients)                \
  /* detection/: anchors, boxes, assignment */           \
  KERNEL(generate_anchors, AnchorsOf<float>)             \
  KERNEL(generate_anchors, AnchorsOf<double>)            \
  KERNEL(decode, Decode)                                 \
  KERNEL(decode_backward, DecodeBackward)                \
  KERNEL(non_max_suppression, NonMaxSuppression)         \
  KERNEL(anchor_boxes_forward, AnchorBoxes)              \
  KERNEL(anchor_boxes_backward, AnchorBoxes)             \
  KERNEL(task_aligned_assign, TaskAlignedAssign)         \
  KERNEL(anchors_inside, AnchorsInside)                  \
  KERNEL(atss_assign, AtssAssign)                        \
  KERNEL(simota_assign, SimOtaAssign)                    \
  KERNEL(simota_candidates, SimOtaCandidates)            \
  /* optimizer.h, augment.h */                           \
  KERNEL(multi_tensor_update, MultiTensorUpdate)         \
  KERNEL(find_overflow, FindOverflow)                    \
  KERNEL(update_loss_scale, UpdateLossScale)             \
  KERNEL(letterbox, Letterbox)                           \
  KERNEL(augment, Augment)

namespace sextant::kernels {

// Each method runs its kernel. On CUDA it starts the work on compute_stream() and returns; it
// allocates its own workspace.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual Device device() const = 0;
#define SEXTANT_METHOD(name, Params) virtual void name(const Params& p) const = 0;
  SEXTANT_KERNELS(SEXTANT_METHOD)
#undef SEXTANT_METHOD
};

// Throws Error for kCuda unless set_cuda_backend() was called.
const Backend& backend(Device device);

// Called with an accelerator's kernels when it is set, and with null when it is removed.
void set_cuda_backend(const Backend* backend);

namespace cpu {
const Backend& backend();  // kernels/cpu/backend.cpp
}
namespace cuda {
const Backend& backend();  // kernels/cuda/backend.cu
}

}  // namespace sextant::kernels
