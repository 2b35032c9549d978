// SPDX-License-Identifier: Apache-2.0
// Tensors and autograd's sums on the device of the SIMT runner.
#include "core/variable.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

TEST_CASE("device tensors: copies both ways, zeros, sums of gradients") {
  const TestDevice device;
  if (!device.usable()) return;
  const Tensor host = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor there = host.to(Device::kCuda);
  CHECK(there.device() == Device::kCuda);
  CHECK(there.to(Device::kCuda).raw() == there.raw());
  CHECK_THROWS_WITH(there.span<float>(), Contains("read by the host"));
  const Tensor back = there.clone().to(Device::kCpu);
  CHECK(
      std::equal(back.span<float>().begin(), back.span<float>().end(), host.span<float>().begin()));
  CHECK(Tensor::zeros({1}, DType::kF32, Device::kCuda).item() == 0.0);

  // The same leaf twice: its gradients meet on the device.
  const Variable x(Tensor::full({1}, 3.0f, Device::kCuda), true);
  backward(
      {{x, Tensor::full({1}, 2.0f, Device::kCuda)}, {x, Tensor::full({1}, 5.0f, Device::kCuda)}});
  CHECK(x.grad().item() == 7.0);
}

TEST_CASE("device allocator: counts, and gives freed blocks out again") {
  const TestDevice device;
  if (!device.usable()) return;
  const int64_t before = device_stats().active_bytes;
  const void* first = nullptr;
  {
    const Tensor t(Shape{1000}, DType::kF32, Device::kCuda);
    first = t.raw();
    CHECK(device_stats().active_bytes >= before + 4000);
  }
  CHECK(device_stats().active_bytes == before);
  const Tensor again(Shape{1000}, DType::kF32, Device::kCuda);
  CHECK(again.raw() == first);
}

#if defined(SEXTANT_SIMT)
TEST_CASE("without a device there are no device tensors") {
  CHECK_THROWS_WITH(Tensor(Shape{1}, DType::kF32, Device::kCuda), Contains("no CUDA device"));
}
#endif

}  // namespace
}  // namespace sextant::test
