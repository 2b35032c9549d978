// The CUDA kernels on the host SIMT runner.
#include <cstdlib>
#include <new>

#include "kernels/cuda/device/pack.cuh"
#include "simt/cases/cases.h"
#include "simt/cases/detection_cases.h"
#include "simt/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace sextant::test {
namespace {

class SimtBackend : public Backend {
 public:
  void* allocate(int64_t bytes) override {
    return ::operator new(static_cast<size_t>(bytes), kAlignment);
  }
  void release(void* p) override { ::operator delete(p, kAlignment); }
  void upload(void* to, const void* from, int64_t bytes) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void download(void* to, const void* from, int64_t bytes) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
#if defined(__SANITIZE_ADDRESS__)
  void forbid(void* p, int64_t bytes) override {
    __asan_poison_memory_region(p, static_cast<size_t>(bytes));
  }
  void allow(void* p, int64_t bytes) override {
    __asan_unpoison_memory_region(p, static_cast<size_t>(bytes));
  }
#else
  void forbid(void*, int64_t) override {}
  void allow(void*, int64_t) override {}
#endif
  Stream stream() override { return {}; }
  std::vector<uint64_t> seeds() const override { return {1, 2, 3}; }
  void start(uint64_t seed) override { simt::set_seed(seed); }

 private:
  static constexpr std::align_val_t kAlignment{256};
};

TEST_CASE("elementwise kernels") {
  SimtBackend backend;
  elementwise_cases(backend);
}
TEST_CASE("elementwise kernels in place") {
  SimtBackend backend;
  elementwise_in_place_cases(backend);
}
TEST_CASE("fake_quant kernels") {
  SimtBackend backend;
  fake_quant_cases(backend);
}
TEST_CASE("fake_quant kernels: ties, range ends, NaN") {
  SimtBackend backend;
  fake_quant_edge_cases(backend);
}
TEST_CASE("requantization kernels") {
  SimtBackend backend;
  requantize_cases(backend);
}
TEST_CASE("histogram kernels") {
  SimtBackend backend;
  histogram_cases(backend);
}
TEST_CASE("rep_bn_act kernels") {
  SimtBackend backend;
  rep_bn_act_cases(backend);
}
TEST_CASE("rep_bn_act kernels in 16 bits") {
  SimtBackend backend;
  rep_bn_act_half_cases(backend);
}
TEST_CASE("rep_bn_act kernels: means far from zero, outliers, constant channels") {
  SimtBackend backend;
  rep_bn_act_hard_statistics(backend);
}
TEST_CASE("rep_bn_act kernels: alignment and optional outputs") {
  SimtBackend backend;
  rep_bn_act_option_cases(backend);
}
TEST_CASE("convolution forward kernels") {
  SimtBackend backend;
  conv_forward_cases(backend);
}
TEST_CASE("convolution forward kernels: epilogues, alignment") {
  SimtBackend backend;
  conv_forward_option_cases(backend);
}
TEST_CASE("convolution forward kernels: pitches, scaled residuals") {
  SimtBackend backend;
  conv_forward_pitch_cases(backend);
}
TEST_CASE("convolution data gradient kernels") {
  SimtBackend backend;
  conv_backward_data_cases(backend);
}
TEST_CASE("convolution weight gradient kernels") {
  SimtBackend backend;
  conv_backward_weight_cases(backend);
}
TEST_CASE("int8 convolution kernels") {
  SimtBackend backend;
  conv_int8_cases(backend);
}
TEST_CASE("optimizer kernels") {
  SimtBackend backend;
  optimizer_cases(backend);
}
TEST_CASE("loss scaling kernels") {
  SimtBackend backend;
  loss_scaling_cases(backend);
}
TEST_CASE("kl_div kernels") {
  SimtBackend backend;
  kl_div_cases(backend);
}
TEST_CASE("score divergence kernels") {
  SimtBackend backend;
  bernoulli_kl_cases(backend);
}
TEST_CASE("anchor box kernels") {
  SimtBackend backend;
  anchor_boxes_cases(backend);
}
TEST_CASE("pooling kernels") {
  SimtBackend backend;
  pool_cases(backend);
}
TEST_CASE("upsampling, channel copy and byte kernels") {
  SimtBackend backend;
  upsample_and_copy_cases(backend);
}
TEST_CASE("branch_sum kernels") {
  SimtBackend backend;
  branch_sum_cases(backend);
}
TEST_CASE("cast kernels") {
  SimtBackend backend;
  cast_cases(backend);
}
TEST_CASE("row kernels: copies, scatter, upsampling") {
  SimtBackend backend;
  move_rows_cases(backend);
}
TEST_CASE("row kernels: pooling") {
  SimtBackend backend;
  pool_rows_cases(backend);
}
TEST_CASE("row kernels: addition, activations, conversions") {
  SimtBackend backend;
  map_rows_cases(backend);
}
TEST_CASE("row kernels: means and softmax") {
  SimtBackend backend;
  mean_and_softmax_rows_cases(backend);
}
TEST_CASE("classification loss kernels") {
  SimtBackend backend;
  class_loss_cases(backend);
}
TEST_CASE("IoU loss kernels") {
  SimtBackend backend;
  iou_loss_cases(backend);
}
TEST_CASE("distribution kernels") {
  SimtBackend backend;
  dfl_cases(backend);
}
TEST_CASE("box loss kernels") {
  SimtBackend backend;
  box_loss_cases(backend);
}
TEST_CASE("target row kernels") {
  SimtBackend backend;
  loss_targets_cases(backend);
}
TEST_CASE("kernels that combine losses and scale gradients") {
  SimtBackend backend;
  total_loss_cases(backend);
}
TEST_CASE("anchor and decode kernels") {
  SimtBackend backend;
  decode_cases(backend);
}
TEST_CASE("assignment kernels") {
  SimtBackend backend;
  assign_cases(backend);
}
TEST_CASE("non-maximum suppression kernels") {
  SimtBackend backend;
  nms_cases(backend);
}
TEST_CASE("transposed convolution kernels") {
  SimtBackend backend;
  conv_transpose_cases(backend);
}
TEST_CASE("letterbox and augmentation kernels") {
  SimtBackend backend;
  augment_cases(backend);
}
TEST_CASE("convolution kernels refuse bad parameters") {
  SimtBackend backend;
  conv_refusal_cases(backend);
}
TEST_CASE("kernels refuse bad parameters") {
  SimtBackend backend;
  refusal_cases(backend);
}
TEST_CASE("kernels refuse types") {
  SimtBackend backend;
  dtype_refusal_cases(backend);
}

// The 64-bit index of fake_quant runs only above 2^31 elements; its divider is checked here.
TEST_CASE("division by a launch constant") {
  using namespace sextant::kernels::cuda;
  const std::vector<int64_t> divisors = {1, 2, 3, 5, 7, 9, 16, 27, 68, 255, 1000003, 2147483647};
  Rng rng(5);
  for (const int64_t d : divisors) {
    const Divider<uint32_t> fast(d);
    const Divider<int64_t> plain(d);
    std::vector<int64_t> numbers = {
        0, 1, d - 1, d, 2147483647, 2147483647 / d * d, 2147483647 / d * d - 1};
    for (int i = 0; i < 2000; ++i) numbers.push_back(rng.below(int64_t{1} << 31));
    int wrong = 0;
    for (const int64_t n : numbers) {
      const auto u = static_cast<uint32_t>(n);
      if (fast.quotient(u) != n / d || fast.remainder(u) != n % d) ++wrong;
      if (plain.quotient(n) != n / d || plain.remainder(n) != n % d) ++wrong;
    }
    CAPTURE(d);
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace sextant::test
