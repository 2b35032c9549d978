// The CPU's kernels as a Backend.
#include "kernels/backend.h"

#include <algorithm>

namespace sextant::kernels {
namespace {

const Backend* cuda_backend = nullptr;

class CpuBackend final : public Backend {
 public:
  Device device() const override { return Device::kCpu; }
  void conv_forward(const ConvForward& p) const override { cpu::conv_forward(p); }
  void conv_backward_data(const ConvBackwardData& p) const override { cpu::conv_backward_data(p); }
  void conv_backward_weight(const ConvBackwardWeight& p) const override {
    cpu::conv_backward_weight(p);
  }
  void conv_int8_forward(const ConvInt8Forward& p) const override { cpu::conv_int8_forward(p); }
  void conv_transpose_forward(const ConvTransposeForward& p) const override {
    cpu::conv_transpose_forward(p);
  }
  void conv_transpose_backward(const ConvTransposeBackward& p) const override {
    cpu::conv_transpose_backward(p);
  }
  void linear_forward(const LinearForward& p) const override { cpu::linear_forward(p); }
  void linear_backward(const LinearBackward& p) const override { cpu::linear_backward(p); }
  void rep_bn_act_forward(const RepBnActForward& p) const override { cpu::rep_bn_act_forward(p); }
  void rep_bn_act_backward(const RepBnActBackward& p) const override {
    cpu::rep_bn_act_backward(p);
  }
  void branch_sum(const BranchSum& p) const override { cpu::branch_sum(p); }
  void channel_dot(const ChannelDot& p) const override { cpu::channel_dot(p); }
  void act_forward(const ActForward& p) const override { cpu::act_forward(p); }
  void act_backward(const ActBackward& p) const override { cpu::act_backward(p); }
  void add_scaled(const AddScaled& p) const override { cpu::add_scaled(p); }
  void cast(const Cast& p) const override { cpu::cast(p); }
  void max_pool_forward(const MaxPoolForward& p) const override { cpu::max_pool_forward(p); }
  void max_pool_backward(const MaxPoolBackward& p) const override { cpu::max_pool_backward(p); }
  void chained_max_pools(const ChainedMaxPools& p) const override { cpu::chained_max_pools(p); }
  void average_pool(const AveragePool& p) const override { cpu::average_pool(p); }
  void upsample_forward(const Upsample& p) const override { cpu::upsample_forward(p); }
  void upsample_backward(const Upsample& p) const override { cpu::upsample_backward(p); }
  void copy_channels(const CopyChannels& p) const override { cpu::copy_channels(p); }
  void bytes_to_float(const uint8_t* x, float* y, int64_t n) const override {
    cpu::bytes_to_float(x, y, n);
  }
  void copy_strided(const CopyStrided& p) const override { cpu::copy_strided(p); }
  void depth_to_space(const DepthToSpace& p) const override { cpu::depth_to_space(p); }
  void upsample_strided(const UpsampleStrided& p) const override { cpu::upsample_strided(p); }
  void max_pool_strided(const MaxPoolStrided& p) const override { cpu::max_pool_strided(p); }
  void add_strided(const AddStrided& p) const override { cpu::add_strided(p); }
  void convert_strided(const ConvertStrided& p) const override { cpu::convert_strided(p); }
  void global_average_strided(const GlobalAverageStrided& p) const override {
    cpu::global_average_strided(p);
  }
  void softmax_strided(const SoftmaxStrided& p) const override { cpu::softmax_strided(p); }
  void fake_quant_forward(const FakeQuantForward& p) const override { cpu::fake_quant_forward(p); }
  void fake_quant_backward(const FakeQuantBackward& p) const override {
    cpu::fake_quant_backward(p);
  }
  void quantize_forward(const QuantizeForward& p) const override { cpu::quantize_forward(p); }
  void quantize_backward(const QuantizeBackward& p) const override { cpu::quantize_backward(p); }
  void dequantize(const Dequantize& p) const override { cpu::dequantize(p); }
  void fold_scales(const ConvScales& s, float* bias, float* factor) const override {
    cpu::fold_scales(s, bias, factor);
  }
  void requantize_forward(const RequantizeForward& p) const override { cpu::requantize_forward(p); }
  void requantize_backward(const RequantizeBackward& p) const override {
    cpu::requantize_backward(p);
  }
  void abs_max(const AbsMax& p) const override { cpu::abs_max(p); }
  void count_bins(const CountBins& p) const override { cpu::count_bins(p); }
  void kl_div(const KlDiv& p, double* sum) const override { *sum = cpu::kl_div(p); }
  void bernoulli_kl(const BernoulliKl& p) const override { cpu::bernoulli_kl(p); }
  void class_loss(const ClassLoss& p, double* sum) const override { *sum = cpu::class_loss(p); }
  void class_loss_logits(const ClassLoss& p, double* sum) const override {
    *sum = cpu::class_loss_logits(p);
  }
  void iou_loss(const IouLoss<float>& p) const override { cpu::iou_loss(p); }
  void iou_loss(const IouLoss<double>& p) const override { cpu::iou_loss(p); }
  void expectation(const Expectation<float>& p) const override { cpu::expectation(p); }
  void expectation(const Expectation<double>& p) const override { cpu::expectation(p); }
  void dfl_loss(const DflLoss& p) const override { cpu::dfl_loss(p); }
  void loss_targets(const LossTargets& p) const override { cpu::loss_targets(p); }
  void decode_boxes(const DecodeBoxes& p) const override { cpu::decode_boxes(p); }
  void box_loss(const BoxLoss& p, double* sums) const override { cpu::box_loss(p, sums); }
  void total_loss(const TotalLoss& p) const override { cpu::total_loss(p); }
  void scale_gradients(const ScaleGradients& p) const override { cpu::scale_gradients(p); }
  void generate_anchors(const AnchorsOf<float>& p) const override { cpu::generate_anchors(p); }
  void generate_anchors(const AnchorsOf<double>& p) const override { cpu::generate_anchors(p); }
  void decode(const Decode& p, float* out) const override { cpu::decode(p, out); }
  void decode_backward(const DecodeBackward& p) const override { cpu::decode_backward(p); }
  void non_max_suppression(const NmsInput& p, const NmsOptions& options, Detection* out,
                           int32_t* count) const override {
    const auto found = cpu::non_max_suppression(p, options);
    for (size_t n = 0; n < found.size(); ++n) {
      std::copy(found[n].begin(), found[n].end(), out + static_cast<int64_t>(n) * options.max_det);
      count[n] = static_cast<int32_t>(found[n].size());
    }
  }
  void anchor_boxes_forward(const AnchorBoxes& p) const override { cpu::anchor_boxes_forward(p); }
  void anchor_boxes_backward(const AnchorBoxes& p) const override { cpu::anchor_boxes_backward(p); }
  void task_aligned_assign(const TaskAlignedAssign& p, int64_t) const override {
    cpu::task_aligned_assign(p);
  }
  void anchors_inside(const LabelAssign& p, uint8_t* inside) const override {
    cpu::anchors_inside(p, inside);
  }
  void atss_assign(const AtssAssign& p, int64_t) const override { cpu::atss_assign(p); }
  void simota_assign(const SimOtaAssign& p, int64_t) const override { cpu::simota_assign(p); }
  void simota_candidates(const SimOtaAssign& p, uint8_t* candidate) const override {
    cpu::simota_candidates(p, candidate);
  }
  void multi_tensor_update(const MultiTensorUpdate& p) const override {
    cpu::multi_tensor_update(p);
  }
  void find_overflow(const FindOverflow& p) const override { cpu::find_overflow(p); }
  void update_loss_scale(const UpdateLossScale& p) const override { cpu::update_loss_scale(p); }
  void letterbox(const Letterbox& p) const override { cpu::letterbox(p); }
  void augment(const Augment& p) const override { cpu::augment(p); }
};

}  // namespace

const Backend& cpu::backend() {
  static const CpuBackend backend;
  return backend;
}

void set_cuda_backend(const Backend* backend) { cuda_backend = backend; }

const Backend& backend(Device device) {
  if (device == Device::kCpu) return cpu::backend();
  check(cuda_backend != nullptr, "no CUDA device is in use");
  return *cuda_backend;
}

}  // namespace sextant::kernels
