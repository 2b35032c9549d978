// The kernels of the device that a tensor is on: what layers and everything above call.
//
//   const kernels::Backend& on = kernels::backend(x.device());
//   on.conv_forward({shape, x.f32(), w.f32(), nullptr, y.f32()});
//
// One method per kernel, under its name and contract (see the header of each family). Pointers are
// to memory of that device. On CUDA a method starts its work on compute_stream() and returns;
// workspaces are its own affair. What the CPU's form of a kernel returns is written to `sum` here,
// in memory of the device.
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

namespace sextant::kernels {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual Device device() const = 0;

  virtual void conv_forward(const ConvForward& p) const = 0;
  virtual void conv_backward_data(const ConvBackwardData& p) const = 0;
  virtual void conv_backward_weight(const ConvBackwardWeight& p) const = 0;
  virtual void conv_int8_forward(const ConvInt8Forward& p) const = 0;
  virtual void conv_transpose_forward(const ConvTransposeForward& p) const = 0;
  virtual void conv_transpose_backward(const ConvTransposeBackward& p) const = 0;
  virtual void linear_forward(const LinearForward& p) const = 0;
  virtual void linear_backward(const LinearBackward& p) const = 0;

  virtual void rep_bn_act_forward(const RepBnActForward& p) const = 0;
  virtual void rep_bn_act_backward(const RepBnActBackward& p) const = 0;
  virtual void branch_sum(const BranchSum& p) const = 0;
  virtual void channel_dot(const ChannelDot& p) const = 0;

  virtual void act_forward(const ActForward& p) const = 0;
  virtual void act_backward(const ActBackward& p) const = 0;
  virtual void add_scaled(const AddScaled& p) const = 0;
  virtual void cast(const Cast& p) const = 0;

  virtual void max_pool_forward(const MaxPoolForward& p) const = 0;
  virtual void max_pool_backward(const MaxPoolBackward& p) const = 0;
  virtual void chained_max_pools(const ChainedMaxPools& p) const = 0;
  virtual void average_pool(const AveragePool& p) const = 0;
  virtual void upsample_forward(const Upsample& p) const = 0;
  virtual void upsample_backward(const Upsample& p) const = 0;
  virtual void copy_channels(const CopyChannels& p) const = 0;
  virtual void bytes_to_float(const uint8_t* x, float* y, int64_t n) const = 0;

  virtual void copy_strided(const CopyStrided& p) const = 0;
  virtual void depth_to_space(const DepthToSpace& p) const = 0;
  virtual void upsample_strided(const UpsampleStrided& p) const = 0;
  virtual void max_pool_strided(const MaxPoolStrided& p) const = 0;
  virtual void add_strided(const AddStrided& p) const = 0;
  virtual void convert_strided(const ConvertStrided& p) const = 0;
  virtual void global_average_strided(const GlobalAverageStrided& p) const = 0;
  virtual void softmax_strided(const SoftmaxStrided& p) const = 0;

  virtual void fake_quant_forward(const FakeQuantForward& p) const = 0;
  virtual void fake_quant_backward(const FakeQuantBackward& p) const = 0;
  virtual void quantize_forward(const QuantizeForward& p) const = 0;
  virtual void quantize_backward(const QuantizeBackward& p) const = 0;
  virtual void dequantize(const Dequantize& p) const = 0;
  virtual void fold_scales(const ConvScales& s, float* bias, float* factor) const = 0;
  virtual void requantize_forward(const RequantizeForward& p) const = 0;
  virtual void requantize_backward(const RequantizeBackward& p) const = 0;
  virtual void abs_max(const AbsMax& p) const = 0;
  virtual void count_bins(const CountBins& p) const = 0;

  virtual void kl_div(const KlDiv& p, double* sum) const = 0;
  virtual void bernoulli_kl(const BernoulliKl& p) const = 0;
  virtual void class_loss(const ClassLoss& p, double* sum) const = 0;
  virtual void class_loss_logits(const ClassLoss& p, double* sum) const = 0;
  virtual void iou_loss(const IouLoss<float>& p) const = 0;
  virtual void iou_loss(const IouLoss<double>& p) const = 0;
  virtual void expectation(const Expectation<float>& p) const = 0;
  virtual void expectation(const Expectation<double>& p) const = 0;
  virtual void dfl_loss(const DflLoss& p) const = 0;
  virtual void loss_targets(const LossTargets& p) const = 0;
  virtual void decode_boxes(const DecodeBoxes& p) const = 0;
  virtual void box_loss(const BoxLoss& p, double* sums) const = 0;
  virtual void total_loss(const TotalLoss& p) const = 0;
  virtual void scale_gradients(const ScaleGradients& p) const = 0;

  virtual void generate_anchors(const AnchorsOf<float>& p) const = 0;
  virtual void generate_anchors(const AnchorsOf<double>& p) const = 0;
  virtual void decode(const Decode& p, float* out) const = 0;
  virtual void decode_backward(const DecodeBackward& p) const = 0;
  // count[n] detections of image n are written to out[n * max_det]; the rest is not touched.
  virtual void non_max_suppression(const NmsInput& p, const NmsOptions& options, Detection* out,
                                   int32_t* count) const = 0;
  virtual void anchor_boxes_forward(const AnchorBoxes& p) const = 0;
  virtual void anchor_boxes_backward(const AnchorBoxes& p) const = 0;
  // `boxes` is gt_begin[batch], for who does not read the device's memory.
  virtual void task_aligned_assign(const TaskAlignedAssign& p, int64_t boxes) const = 0;
  virtual void anchors_inside(const LabelAssign& p, uint8_t* inside) const = 0;
  virtual void atss_assign(const AtssAssign& p, int64_t boxes) const = 0;
  virtual void simota_assign(const SimOtaAssign& p, int64_t boxes) const = 0;
  virtual void simota_candidates(const SimOtaAssign& p, uint8_t* candidate) const = 0;

  // The list lies in memory of the device.
  virtual void multi_tensor_update(const MultiTensorUpdate& p) const = 0;
  virtual void find_overflow(const FindOverflow& p) const = 0;
  virtual void update_loss_scale(const UpdateLossScale& p) const = 0;

  virtual void letterbox(const Letterbox& p) const = 0;
  virtual void augment(const Augment& p) const = 0;
};

// Throws Error for kCuda when no set_cuda_backend() came before.
const Backend& backend(Device device);

namespace cpu {
const Backend& backend();
}
namespace cuda {
const Backend& backend();  // kernels/cuda/backend.cu
}

// Whoever sets the accelerator sets its kernels too; null takes them away.
void set_cuda_backend(const Backend* backend);

}  // namespace sextant::kernels
