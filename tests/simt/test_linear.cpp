// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_choice.h"
#include "kernels/linear_cases.h"
#include "simt/accelerator.h"

namespace sextant::test {
TEST_CASE("linear layers through our convolutions on the SIMT runner") {
  const TestDevice device;
  if (!device.usable()) return;
  linear_cases(Device::kCuda);
}

// A library is asked first, and what it does not do is ours.
TEST_CASE("linear layers and convolutions of a library") {
  const TestDevice device;
  if (!device.usable()) return;
  struct Asked final : kernels::LinearLibrary {
    int times = 0;
    bool takes = false;
    bool run(const kernels::LinearForward&, Stream) override { return ++times, takes; }
    bool run(const kernels::LinearBackward&, Stream) override { return ++times, takes; }
  } asked;
  kernels::set_linear_library(&asked);
  linear_cases(Device::kCuda);
  CHECK(asked.times > 0);
  asked.takes = true;
  const Tensor x = Tensor::full({1, 1}, 2.0f, Device::kCuda), y = x.clone();
  kernels::backend(Device::kCuda).linear_forward({{1, 1, 1}, x.f32(), x.f32(), nullptr, y.f32()});
  CHECK(y.item() == 2.0);  // untouched
  kernels::set_linear_library(nullptr);
  kernels::backend(Device::kCuda).linear_forward({{1, 1, 1}, x.f32(), x.f32(), nullptr, y.f32()});
  CHECK(y.item() == 4.0);

  struct AskedToo final : kernels::ConvLibrary {
    int times = 0;
    bool takes = false;
    bool run(const kernels::ConvForward&, Stream) override { return ++times, takes; }
    bool run(const kernels::ConvBackwardData&, Stream) override { return ++times, takes; }
    bool run(const kernels::ConvBackwardWeight&, Stream) override { return ++times, takes; }
    bool run(const kernels::ConvInt8Forward&, Stream) override { return ++times, takes; }
  } convolutions;
  kernels::set_conv_library(&convolutions);
  kernels::ConvForward p;
  p.x = p.w = x.f32();
  p.y = y.f32();
  y.fill_zero();
  kernels::backend(Device::kCuda).conv_forward(p);
  CHECK(y.item() == 4.0);
  y.fill_zero();
  convolutions.takes = true;
  kernels::backend(Device::kCuda).conv_forward(p);
  CHECK(y.item() == 0.0);
  CHECK(convolutions.times == 2);
  kernels::set_conv_library(nullptr);
}
}  // namespace sextant::test
