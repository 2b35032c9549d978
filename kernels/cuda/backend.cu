// Our CUDA kernels as a Backend.
#include "kernels/backend.h"
#include "kernels/conv_choice.h"

namespace sextant::kernels {
namespace {

// Whether a library's convolution was faster, and has been started.
template <class P>
bool taken_by_library(const P& p) {
  ConvLibrary* library = conv_library();
  return library && library->run(p, compute_stream());
}

class CudaBackend final : public Backend {
 public:
  Device device() const override { return Device::kCuda; }
  void conv_forward(const ConvForward& p) const override {
    if (taken_by_library(p)) return;
    cuda::conv_forward(p, compute_stream());
  }
  void conv_backward_data(const ConvBackwardData& p) const override {
    if (taken_by_library(p)) return;
    cuda::conv_backward_data(p, compute_stream());
  }
  void conv_backward_weight(const ConvBackwardWeight& p) const override {
    if (taken_by_library(p)) return;
    const Workspace workspace(cuda::conv_backward_weight_workspace(p.shape));
    cuda::conv_backward_weight(p, workspace.data(), compute_stream());
  }
  void conv_int8_forward(const ConvInt8Forward& p) const override {
    if (taken_by_library(p)) return;
    cuda::conv_int8_forward(p, compute_stream());
  }
  void conv_transpose_forward(const ConvTransposeForward& p) const override {
    const Workspace workspace(cuda::conv_transpose_forward_workspace(p.shape, p.dtype));
    cuda::conv_transpose_forward(p, workspace.data(), compute_stream());
  }
  void conv_transpose_backward(const ConvTransposeBackward& p) const override {
    const Workspace workspace(cuda::conv_transpose_backward_workspace(p.shape, p.dtype));
    cuda::conv_transpose_backward(p, workspace.data(), compute_stream());
  }
  void linear_forward(const LinearForward& p) const override {
    LinearLibrary* library = linear_library();
    if (library && library->run(p, compute_stream())) return;
    conv_forward(as_convolution(p));
  }
  void linear_backward(const LinearBackward& p) const override {
    LinearLibrary* library = linear_library();
    if (library && library->run(p, compute_stream())) return;
    if (p.dx) conv_backward_data(data_as_convolution(p));
    if (p.dw) conv_backward_weight(weight_as_convolution(p));
  }
  void rep_bn_act_forward(const RepBnActForward& p) const override {
    const Workspace workspace(cuda::rep_bn_act_workspace(p.branches, p.rows, p.channels));
    cuda::rep_bn_act_forward(p, workspace.data(), compute_stream());
  }
  void rep_bn_act_backward(const RepBnActBackward& p) const override {
    const Workspace workspace(cuda::rep_bn_act_workspace(p.branches, p.rows, p.channels));
    cuda::rep_bn_act_backward(p, workspace.data(), compute_stream());
  }
  void branch_sum(const BranchSum& p) const override { cuda::branch_sum(p, compute_stream()); }
  void channel_dot(const ChannelDot& p) const override {
    const Workspace workspace(cuda::channel_dot_workspace(p));
    cuda::channel_dot(p, workspace.data(), compute_stream());
  }
  void act_forward(const ActForward& p) const override { cuda::act_forward(p, compute_stream()); }
  void act_backward(const ActBackward& p) const override {
    cuda::act_backward(p, compute_stream());
  }
  void add_scaled(const AddScaled& p) const override { cuda::add_scaled(p, compute_stream()); }
  void cast(const Cast& p) const override { cuda::cast(p, compute_stream()); }
  void max_pool_forward(const MaxPoolForward& p) const override {
    cuda::max_pool_forward(p, compute_stream());
  }
  void max_pool_backward(const MaxPoolBackward& p) const override {
    cuda::max_pool_backward(p, compute_stream());
  }
  void chained_max_pools(const ChainedMaxPools& p) const override {
    cuda::chained_max_pools(p, compute_stream());
  }
  void average_pool(const AveragePool& p) const override {
    cuda::average_pool(p, compute_stream());
  }
  void upsample_forward(const Upsample& p) const override {
    cuda::upsample_forward(p, compute_stream());
  }
  void upsample_backward(const Upsample& p) const override {
    cuda::upsample_backward(p, compute_stream());
  }
  void copy_channels(const CopyChannels& p) const override {
    cuda::copy_channels(p, compute_stream());
  }
  void bytes_to_float(const uint8_t* x, float* y, int64_t n) const override {
    cuda::bytes_to_float(x, y, n, compute_stream());
  }
  void copy_strided(const CopyStrided& p) const override {
    cuda::copy_strided(p, compute_stream());
  }
  void depth_to_space(const DepthToSpace& p) const override {
    cuda::depth_to_space(p, compute_stream());
  }
  void upsample_strided(const UpsampleStrided& p) const override {
    cuda::upsample_strided(p, compute_stream());
  }
  void max_pool_strided(const MaxPoolStrided& p) const override {
    cuda::max_pool_strided(p, compute_stream());
  }
  void add_strided(const AddStrided& p) const override { cuda::add_strided(p, compute_stream()); }
  void convert_strided(const ConvertStrided& p) const override {
    cuda::convert_strided(p, compute_stream());
  }
  void global_average_strided(const GlobalAverageStrided& p) const override {
    cuda::global_average_strided(p, compute_stream());
  }
  void softmax_strided(const SoftmaxStrided& p) const override {
    cuda::softmax_strided(p, compute_stream());
  }
  void fake_quant_forward(const FakeQuantForward& p) const override {
    cuda::fake_quant_forward(p, compute_stream());
  }
  void fake_quant_backward(const FakeQuantBackward& p) const override {
    cuda::fake_quant_backward(p, compute_stream());
  }
  void quantize_forward(const QuantizeForward& p) const override {
    cuda::quantize_forward(p, compute_stream());
  }
  void quantize_backward(const QuantizeBackward& p) const override {
    const Workspace workspace(cuda::quantize_backward_workspace(p));
    cuda::quantize_backward(p, workspace.data(), compute_stream());
  }
  void dequantize(const Dequantize& p) const override { cuda::dequantize(p, compute_stream()); }
  void fold_scales(const ConvScales& s, float* bias, float* factor) const override {
    cuda::fold_scales(s, bias, factor, compute_stream());
  }
  void requantize_forward(const RequantizeForward& p) const override {
    cuda::requantize_forward(p, compute_stream());
  }
  void requantize_backward(const RequantizeBackward& p) const override {
    const Workspace workspace(cuda::requantize_backward_workspace(p));
    cuda::requantize_backward(p, workspace.data(), compute_stream());
  }
  void abs_max(const AbsMax& p) const override { cuda::abs_max(p, compute_stream()); }
  void count_bins(const CountBins& p) const override { cuda::count_bins(p, compute_stream()); }
  void kl_div(const KlDiv& p, double* sum) const override {
    const Workspace workspace(cuda::kl_div_workspace(p));
    cuda::kl_div(p, sum, workspace.data(), compute_stream());
  }
  void bernoulli_kl(const BernoulliKl& p) const override {
    const Workspace workspace(cuda::bernoulli_kl_workspace(p));
    cuda::bernoulli_kl(p, workspace.data(), compute_stream());
  }
  void class_loss(const ClassLoss& p, double* sum) const override {
    const Workspace workspace(cuda::class_loss_workspace(p));
    cuda::class_loss(p, sum, workspace.data(), compute_stream());
  }
  void class_loss_logits(const ClassLoss& p, double* sum) const override {
    const Workspace workspace(cuda::class_loss_workspace(p));
    cuda::class_loss_logits(p, sum, workspace.data(), compute_stream());
  }
  void iou_loss(const IouLoss<float>& p) const override { cuda::iou_loss(p, compute_stream()); }
  void iou_loss(const IouLoss<double>& p) const override { cuda::iou_loss(p, compute_stream()); }
  void expectation(const Expectation<float>& p) const override {
    cuda::expectation(p, compute_stream());
  }
  void expectation(const Expectation<double>& p) const override {
    cuda::expectation(p, compute_stream());
  }
  void dfl_loss(const DflLoss& p) const override { cuda::dfl_loss(p, compute_stream()); }
  void loss_targets(const LossTargets& p) const override {
    const Workspace workspace(cuda::loss_targets_workspace(p));
    cuda::loss_targets(p, workspace.data(), compute_stream());
  }
  void decode_boxes(const DecodeBoxes& p) const override {
    cuda::decode_boxes(p, compute_stream());
  }
  void box_loss(const BoxLoss& p, double* sums) const override {
    const Workspace workspace(cuda::box_loss_workspace(p));
    cuda::box_loss(p, sums, workspace.data(), compute_stream());
  }
  void total_loss(const TotalLoss& p) const override { cuda::total_loss(p, compute_stream()); }
  void scale_gradients(const ScaleGradients& p) const override {
    cuda::scale_gradients(p, compute_stream());
  }
  void generate_anchors(const AnchorsOf<float>& p) const override {
    cuda::generate_anchors(p, compute_stream());
  }
  void generate_anchors(const AnchorsOf<double>& p) const override {
    cuda::generate_anchors(p, compute_stream());
  }
  void decode(const Decode& p, float* out) const override {
    cuda::decode(p, out, compute_stream());
  }
  void decode_backward(const DecodeBackward& p) const override {
    cuda::decode_backward(p, compute_stream());
  }
  void non_max_suppression(const NmsInput& p, const NmsOptions& options, Detection* out,
                           int32_t* count) const override {
    const Workspace workspace(cuda::non_max_suppression_workspace(p, options));
    cuda::non_max_suppression(p, options, out, count, workspace.data(), compute_stream());
  }
  void anchor_boxes_forward(const AnchorBoxes& p) const override {
    cuda::anchor_boxes_forward(p, compute_stream());
  }
  void anchor_boxes_backward(const AnchorBoxes& p) const override {
    cuda::anchor_boxes_backward(p, compute_stream());
  }
  void task_aligned_assign(const TaskAlignedAssign& p, int64_t boxes) const override {
    const Workspace workspace(cuda::task_aligned_assign_workspace(boxes));
    cuda::task_aligned_assign(p, boxes, workspace.data(), compute_stream());
  }
  void anchors_inside(const LabelAssign& p, uint8_t* inside) const override {
    cuda::anchors_inside(p, inside, compute_stream());
  }
  void atss_assign(const AtssAssign& p, int64_t boxes) const override {
    cuda::atss_assign(p, boxes, compute_stream());
  }
  void simota_assign(const SimOtaAssign& p, int64_t boxes) const override {
    const Workspace workspace(cuda::simota_assign_workspace(p));
    cuda::simota_assign(p, boxes, workspace.data(), compute_stream());
  }
  void simota_candidates(const SimOtaAssign& p, uint8_t* candidate) const override {
    cuda::simota_candidates(p, candidate, compute_stream());
  }
  void multi_tensor_update(const MultiTensorUpdate& p) const override {
    const Workspace workspace(cuda::multi_tensor_update_workspace(p));
    cuda::multi_tensor_update(p, workspace.data(), compute_stream());
  }
  void find_overflow(const FindOverflow& p) const override {
    cuda::find_overflow(p, compute_stream());
  }
  void update_loss_scale(const UpdateLossScale& p) const override {
    cuda::update_loss_scale(p, compute_stream());
  }
  void letterbox(const Letterbox& p) const override { cuda::letterbox(p, compute_stream()); }
  void augment(const Augment& p) const override { cuda::augment(p, compute_stream()); }
};

}  // namespace

const Backend& cuda::backend() {
  static const CudaBackend backend;
  return backend;
}

}  // namespace sextant::kernels
