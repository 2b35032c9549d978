// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime and its libraries on a device: memory, streams, recorded work, cuBLAS, cuDNN.
#include <set>

#include "core/file.h"
#include "kernels/conv_choice.h"
#include "kernels/cuda/runtime.h"
#include "kernels/linear_cases.h"

#if defined(SEXTANT_CUDNN)
#include "kernels/cuda/libraries/choose_conv.h"
#include "kernels/cuda/libraries/cudnn_graph.h"
#endif

namespace sextant::test {
namespace {

// The device started, or the reason why not told.
bool device() {
  std::string reason;
  if (!kernels::cuda_available(&reason)) {
    skip(reason);
    return false;
  }
  kernels::start_cuda();
  return true;
}

// Without a device, this is all of start_cuda() that can be seen.
TEST_CASE("starting CUDA: a device, or one line that says why not", "[gpu]") {
  std::string reason;
  if (kernels::cuda_available(&reason)) {
    CHECK_NOTHROW(kernels::start_cuda());
    CHECK(has_accelerator());
    CHECK_FALSE(accelerator().name().empty());
    return;
  }
  CHECK_FALSE(has_accelerator());
  CHECK_FALSE(reason.empty());
  CHECK(reason.find('\n') == std::string::npos);
  CHECK_THROWS_WITH(kernels::start_cuda(), reason);
}

TEST_CASE("tensors on the device: copies, zeros, sums", "[gpu]") {
  if (!device()) return;
  const Tensor host = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor there = host.to(Device::kCuda);
  const Tensor twice = there.clone();
  accelerator().add_into(twice.f32(), there.f32(), 6, DType::kF32, compute_stream());
  const Tensor back = twice.to(Device::kCpu);
  for (int i = 0; i < 6; ++i) CHECK(back.f32()[i] == 2 * host.f32()[i]);
  twice.fill_zero();
  CHECK(twice.to(Device::kCpu).f32()[5] == 0.0f);
}

TEST_CASE("running out of device memory gives one line", "[gpu]") {
  if (!device()) return;
  CHECK_THROWS_WITH(device_allocate(int64_t{1} << 46), Contains("out of memory"));
  CHECK(Tensor::full({4}, 1.0f, Device::kCuda).to(Device::kCpu).f32()[3] == 1.0f);
}

TEST_CASE("streams wait for each other", "[gpu]") {
  if (!device()) return;
  const Stream first = accelerator().make_stream(), second = accelerator().make_stream();
  constexpr int64_t kCount = int64_t{1} << 24;
  const Tensor sum = Tensor::zeros({kCount}, DType::kF32, Device::kCuda);
  const Tensor one = Tensor::full({kCount}, 1.0f, Device::kCuda);
  accelerator().synchronize({});
  for (int i = 0; i < 8; ++i) {
    const Stream now = i % 2 == 0 ? first : second, before = i % 2 == 0 ? second : first;
    accelerator().wait(now, before);
    accelerator().add_into(sum.f32(), one.f32(), kCount, DType::kF32, now);
  }
  accelerator().synchronize(second);
  CHECK(sum.to(Device::kCpu).f32()[kCount - 1] == 8.0f);
  accelerator().destroy_stream(first);
  accelerator().destroy_stream(second);
}

TEST_CASE("recorded work replays as a CUDA graph", "[gpu]") {
  if (!device()) return;
  const Tensor sum = Tensor::zeros({1000}, DType::kF32, Device::kCuda);
  const Tensor one = Tensor::full({1000}, 1.0f, Device::kCuda);
  RecordedWork work([&] {
    const Workspace twice(4000);
    auto* p = static_cast<float*>(twice.data());
    accelerator().fill_zero(p, 4000, compute_stream());
    for (int i = 0; i < 2; ++i)
      accelerator().add_into(p, one.f32(), 1000, DType::kF32, compute_stream());
    accelerator().add_into(sum.f32(), p, 1000, DType::kF32, compute_stream());
  });
  for (int run = 1; run <= 5; ++run) {
    work.run();
    CHECK(sum.to(Device::kCpu).f32()[999] == 2.0f * static_cast<float>(run));
  }
  CHECK(work.recorded());
}

TEST_CASE("linear layers by cuBLAS, and by our convolutions", "[gpu]") {
  if (!device()) return;
  linear_cases(Device::kCuda);
  kernels::LinearLibrary* library = kernels::linear_library();
  kernels::set_linear_library(nullptr);
  linear_cases(Device::kCuda);
  kernels::set_linear_library(library);
}

#if defined(SEXTANT_CUDNN)
// The keys of the description that the plans of tests/cudnn are made from. A device's own goes to
// the test's output: it is to replace that file, which was written by hand.
TEST_CASE("the description of a device is that of the stored one", "[gpu]") {
  if (!device()) return;
  const auto keys = [](const std::string& text) {
    std::set<std::string> names;
    for (const auto& [name, value] : Json::parse(text).items()) names.insert(name);
    return names;
  };
  const std::string real = kernels::cudnn::DeviceProperties::of_device(0).json();
  WARN("this device: " << real);
  CHECK(keys(real) == keys(read_text(std::string(SEXTANT_SOURCE_DIR) + "/tests/cudnn/h100.json")));
}

// measure() refuses a plan whose result is not ours, so a time for cuDNN says that they agree: in
// int8 to the integer, which pins rounding and saturation (results up to three times the range).
template <class P>
void agrees(const P& p) {
  const kernels::ConvVerdict v = kernels::cuda::measure(p, compute_stream());
  INFO(kernels::conv_key(p) << ": " << v.note);
  CHECK(v.ours_us > 0);
  CHECK(v.library_us > 0);
}

TEST_CASE("cuDNN's convolutions agree with ours", "[gpu]") {
  if (!device()) return;
  static float real = 0;
  static int8_t integer = 0;
  for (const kernels::ConvShape& shape : {kernels::ConvShape{1, 1, 1, 16, 16, 1, 1, 1, 0, 1},
                                          kernels::ConvShape{3, 20, 20, 64, 32, 3, 3, 1, 1, 1},
                                          kernels::ConvShape{1, 40, 40, 32, 64, 3, 3, 2, 1, 1}}) {
    kernels::ConvInt8Forward q;
    q.shape = shape;
    q.bias = q.factor = &real;
    agrees(q);
    q.epilogue.activation = Activation::kReLU;
    agrees(q);
    q.residual = &integer;
    q.epilogue.residual_scale = 0.5f;
    agrees(q);
    q.epilogue.residual_before_activation = true;
    agrees(q);
    q.residual = nullptr;
    q.epilogue.activation = Activation::kSiLU;
    q.epilogue.activation_scale = 0.5f;
    agrees(q);
    for (const DType type : {DType::kF16, DType::kBF16, DType::kF32}) {
      kernels::ConvForward f;
      f.shape = shape;
      f.dtype = type;
      agrees(f);
      f.bias = &real;
      f.epilogue.activation = Activation::kReLU;
      agrees(f);
      kernels::ConvBackwardData d;
      d.shape = shape;
      d.dtype = type;
      agrees(d);
      kernels::ConvBackwardWeight w;
      w.shape = shape;
      w.dtype = type;
      agrees(w);
    }
  }
}

// The library takes a shape the same way again, out of its folder, without measuring.
TEST_CASE("choices of convolutions are stored and read back", "[gpu]") {
  if (!device()) return;
  const auto folder = std::filesystem::temp_directory_path() / "sextant-test-choices";
  std::filesystem::remove_all(folder);
  const Tensor x = Tensor::full({1, 20, 20, 64}, 0.5f, Device::kCuda),
               w = Tensor::full({64, 3, 3, 64}, 0.01f, Device::kCuda), y = x.clone();
  kernels::ConvForward p;
  p.shape = {1, 20, 20, 64, 64, 3, 3, 1, 1, 1};
  p.x = x.f32();
  p.w = w.f32();
  p.y = y.f32();
  const bool taken = kernels::cuda::cudnn_convolutions(folder.string())->run(p, compute_stream());
  const auto table = kernels::ConvChoices::from_json(
      Json::parse(read_text(folder / "choices.json")), "choices.json");
  REQUIRE(table.find(kernels::conv_key(p)));
  CHECK(table.find(kernels::conv_key(p))->library == taken);
  const std::string before = read_text(folder / "choices.json");
  CHECK(kernels::cuda::cudnn_convolutions(folder.string())->run(p, compute_stream()) == taken);
  CHECK(read_text(folder / "choices.json") == before);
  accelerator().synchronize(compute_stream());
  std::filesystem::remove_all(folder);
}
#endif

}  // namespace
}  // namespace sextant::test
