// The CUDA kernels on a device, against the references and the CPU kernels: the cases that
// test_simt runs on the host. Each is run twice, and has to repeat bit for bit.
#include <cuda_runtime_api.h>

#include "simt/cases/cases.h"
#include "simt/cases/detection_cases.h"

namespace sextant::test {
namespace {

void must(cudaError_t status, const char* what) {
  sextant::check(status == cudaSuccess, "{}: {} ({})", what, cudaGetErrorString(status),
                 cudaGetErrorName(status));
}

class CudaBackend : public Backend {
 public:
  CudaBackend() { must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
  ~CudaBackend() override { static_cast<void>(cudaStreamDestroy(stream_)); }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  void* allocate(int64_t bytes) override {
    void* p = nullptr;
    must(cudaMalloc(&p, static_cast<size_t>(bytes)), "cudaMalloc");
    return p;
  }
  void release(void* p) override { static_cast<void>(cudaFree(p)); }
  void upload(void* to, const void* from, int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void forbid(void*, int64_t) override {}  // the guards' values are checked
  void allow(void*, int64_t) override {}
  Stream stream() override { return {stream_}; }
  std::vector<uint64_t> seeds() const override { return {0, 1}; }
  void start(uint64_t) override {}

 private:
  void copy(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind) {
    must(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream_), "copy");
    must(cudaStreamSynchronize(stream_), "kernels and copy");
  }

  cudaStream_t stream_ = nullptr;
};

// Runs the cases, or says why not.
void on_device(void (*cases)(Backend&)) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    skip(status != cudaSuccess ? cudaGetErrorString(status) : "no CUDA device");
    return;
  }
  CudaBackend backend;
  cases(backend);
}

TEST_CASE("elementwise kernels", "[gpu]") { on_device(elementwise_cases); }
TEST_CASE("elementwise kernels in place", "[gpu]") { on_device(elementwise_in_place_cases); }
TEST_CASE("fake_quant kernels", "[gpu]") { on_device(fake_quant_cases); }
TEST_CASE("fake_quant kernels: ties, range ends, NaN", "[gpu]") {
  on_device(fake_quant_edge_cases);
}
TEST_CASE("requantization kernels", "[gpu]") { on_device(requantize_cases); }
TEST_CASE("histogram kernels", "[gpu]") { on_device(histogram_cases); }
TEST_CASE("rep_bn_act kernels", "[gpu]") { on_device(rep_bn_act_cases); }
TEST_CASE("rep_bn_act kernels in 16 bits", "[gpu]") { on_device(rep_bn_act_half_cases); }
TEST_CASE("rep_bn_act kernels: means far from zero, outliers, constant channels", "[gpu]") {
  on_device(rep_bn_act_hard_statistics);
}
TEST_CASE("rep_bn_act kernels: alignment and optional outputs", "[gpu]") {
  on_device(rep_bn_act_option_cases);
}
TEST_CASE("convolution forward kernels", "[gpu]") { on_device(conv_forward_cases); }
TEST_CASE("convolution forward kernels: epilogues, alignment", "[gpu]") {
  on_device(conv_forward_option_cases);
}
TEST_CASE("convolution forward kernels: pitches, scaled residuals", "[gpu]") {
  on_device(conv_forward_pitch_cases);
}
TEST_CASE("convolution data gradient kernels", "[gpu]") { on_device(conv_backward_data_cases); }
TEST_CASE("convolution weight gradient kernels", "[gpu]") { on_device(conv_backward_weight_cases); }
TEST_CASE("int8 convolution kernels", "[gpu]") { on_device(conv_int8_cases); }
TEST_CASE("optimizer kernels", "[gpu]") { on_device(optimizer_cases); }
TEST_CASE("loss scaling kernels", "[gpu]") { on_device(loss_scaling_cases); }
TEST_CASE("kl_div kernels", "[gpu]") { on_device(kl_div_cases); }
TEST_CASE("score divergence kernels", "[gpu]") { on_device(bernoulli_kl_cases); }
TEST_CASE("anchor box kernels", "[gpu]") { on_device(anchor_boxes_cases); }
TEST_CASE("pooling kernels", "[gpu]") { on_device(pool_cases); }
TEST_CASE("upsampling, channel copy and byte kernels", "[gpu]") {
  on_device(upsample_and_copy_cases);
}
TEST_CASE("branch_sum kernels", "[gpu]") { on_device(branch_sum_cases); }
TEST_CASE("cast kernels", "[gpu]") { on_device(cast_cases); }
TEST_CASE("row kernels: copies, scatter, upsampling", "[gpu]") { on_device(move_rows_cases); }
TEST_CASE("row kernels: pooling", "[gpu]") { on_device(pool_rows_cases); }
TEST_CASE("row kernels: addition, activations, conversions", "[gpu]") { on_device(map_rows_cases); }
TEST_CASE("row kernels: means and softmax", "[gpu]") { on_device(mean_and_softmax_rows_cases); }
TEST_CASE("classification loss kernels", "[gpu]") { on_device(class_loss_cases); }
TEST_CASE("IoU loss kernels", "[gpu]") { on_device(iou_loss_cases); }
TEST_CASE("distribution kernels", "[gpu]") { on_device(dfl_cases); }
TEST_CASE("box loss kernels", "[gpu]") { on_device(box_loss_cases); }
TEST_CASE("target row kernels", "[gpu]") { on_device(loss_targets_cases); }
TEST_CASE("kernels that combine losses and scale gradients", "[gpu]") {
  on_device(total_loss_cases);
}
TEST_CASE("anchor and decode kernels", "[gpu]") { on_device(decode_cases); }
TEST_CASE("assignment kernels", "[gpu]") { on_device(assign_cases); }
TEST_CASE("non-maximum suppression kernels", "[gpu]") { on_device(nms_cases); }
TEST_CASE("transposed convolution kernels", "[gpu]") { on_device(conv_transpose_cases); }
TEST_CASE("letterbox and augmentation kernels", "[gpu]") { on_device(augment_cases); }
TEST_CASE("convolution kernels refuse bad parameters", "[gpu]") { on_device(conv_refusal_cases); }
TEST_CASE("kernels refuse bad parameters", "[gpu]") { on_device(refusal_cases); }
TEST_CASE("kernels refuse types", "[gpu]") { on_device(dtype_refusal_cases); }

}  // namespace
}  // namespace sextant::test
