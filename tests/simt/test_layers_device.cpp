// SPDX-License-Identifier: Apache-2.0
// Every differentiable function on the device against the same function on the host: results, all
// gradients, and side effects.
#include <functional>

#include "layers/autocast.h"
#include "layers/blocks.h"
#include "layers/distill.h"
#include "layers/functional.h"
#include "simt/accelerator.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using Variables = std::vector<Variable>;
using Tensors = std::vector<Tensor>;

struct LayerCase {
  Tensors inputs;                // want gradients
  Tensors fixed = {};            // do not; may be changed by the function
  double tolerance = 0;          // of relative_difference(); 0: equal
  std::vector<bool> wants = {};  // empty: all inputs
};
using Function = std::function<Variable(const Variables& inputs, const Tensors& fixed)>;

// The result, the gradients, the fixed tensors as they are after it; all on the host.
Tensors run_layer(const Function& f, const LayerCase& c, Device device) {
  Variables inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    inputs.emplace_back(c.inputs[i].clone().to(device), c.wants.empty() || c.wants[i]);
  Tensors fixed;
  for (const Tensor& t : c.fixed) fixed.push_back(t.clone().to(device));
  const Variable y = f(inputs, fixed);
  REQUIRE(y.data().device() == device);
  backward({{y, random_tensor(y.shape(), 99).to(device)}});
  Tensors out{y.data().to(Device::kCpu)};
  for (const Variable& v : inputs) {
    REQUIRE(v.grad().defined() == v.requires_grad());
    if (v.grad().defined()) out.push_back(v.grad().to(Device::kCpu));
  }
  for (const Tensor& t : fixed) out.push_back(t.to(Device::kCpu));
  return out;
}

void check_alike(const char* name, const LayerCase& c, const Function& f) {
  CAPTURE(name);
  const Tensors host = run_layer(f, c, Device::kCpu), device = run_layer(f, c, Device::kCuda);
  REQUIRE(host.size() == device.size());
  for (size_t i = 0; i < host.size(); ++i) {
    CAPTURE(i, host[i].shape().str());
    if (host[i].dtype() == DType::kF32)
      CHECK(relative_difference(device[i], host[i]) <= c.tolerance);
  }
}

constexpr double kProducts = 3e-6, kRounding = 1e-6;

TEST_CASE("device: convolutions as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  struct Conv {
    Shape x, w;
    ConvParams p;
  };
  for (const Conv& c : {Conv{{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 0, 1}},
                        {{2, 9, 6, 3}, {17, 3, 3, 3}, {2, 1, 1}},
                        {{3, 5, 4, 17}, {8, 1, 1, 17}, {1, 0, 1}},
                        {{1, 8, 8, 8}, {68, 3, 3, 8}, {1, 1, 1}},
                        {{2, 7, 6, 24}, {24, 5, 5, 1}, {2, 2, 24}}}) {
    const Tensor x = random_tensor(c.x, 1), w = random_tensor(c.w, 2),
                 b = random_tensor({c.w[0]}, 3);
    check_alike("with bias", {{x, w, b}, {}, kProducts},
                [&](const Variables& v, const Tensors&) { return conv2d(v[0], v[1], v[2], c.p); });
    check_alike("weight alone", {{x, w}, {}, kProducts, {false, true}},
                [&](const Variables& v, const Tensors&) { return conv2d(v[0], v[1], {}, c.p); });
  }
  for (const int64_t channels : {1, 3, 16}) {
    const LayerCase c{{random_tensor({2, 3, 4, channels}, 4), random_tensor({5, 2, 2, channels}, 5),
                       random_tensor({5}, 6)},
                      {},
                      kProducts};
    check_alike("transposed", c, [](const Variables& v, const Tensors&) {
      return conv_transpose2d(v[0], v[1], v[2]);
    });
  }
}

TEST_CASE("device: products, means and permutations of channels as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const int64_t channels : {3, 16}) {
    const Shape shape{2, 5, 3, channels};
    const Tensor x = random_tensor(shape, 7), y = random_tensor(shape, 8),
                 gate = random_tensor({2, 1, 1, channels}, 9);
    std::vector<int64_t> order;
    for (int64_t c = 0; c < channels; ++c) order.push_back((c + 2) % channels);
    const auto product = [](const Variables& v, const Tensors&) { return multiply(v[0], v[1]); };
    check_alike("product", {{x, y}}, product);
    check_alike("gates", {{x, gate}, {}, kRounding}, product);
    check_alike("mean", {{x}, {}, kRounding},
                [](const Variables& v, const Tensors&) { return global_average(v[0]); });
    check_alike("permutation", {{x}},
                [&](const Variables& v, const Tensors&) { return permute_channels(v[0], order); });
  }
}

// gamma and beta of `count` batch-norms after the branches; running statistics among the fixed.
void add_norms(LayerCase& c, size_t count, int64_t channels) {
  for (size_t b = 0; b < count; ++b) {
    c.inputs.push_back(random_tensor({channels}, 20 + b, 0.5, 1.5));
    c.inputs.push_back(random_tensor({channels}, 30 + b, -0.5, 0.5));
    c.fixed.push_back(random_tensor({channels}, 40 + b, -0.2, 0.2));
    c.fixed.push_back(random_tensor({channels}, 50 + b, 0.5, 1.5));
  }
}
std::vector<BatchNormState> norms(const Variables& v, const Tensors& fixed) {
  std::vector<BatchNormState> out;
  const size_t first = v.size() - fixed.size();
  for (size_t i = 0; i < fixed.size(); i += 2)
    out.push_back({v[first + i], v[first + i + 1], fixed[i], fixed[i + 1]});
  return out;
}

TEST_CASE("device: batch-norm and RepVGG blocks as on the host, running statistics too") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const bool training : {true, false})
    for (const size_t branches : {1, 2, 3})
      for (const int64_t channels : {3, 16}) {
        CAPTURE(training, branches, channels);
        const BatchNormParams params{.training = training};
        LayerCase c;
        c.tolerance = 1e-5;
        for (size_t b = 0; b < branches; ++b)
          c.inputs.push_back(random_tensor({2, 5, 4, channels}, 10 + b));
        add_norms(c, branches, channels);
        check_alike("rep_bn_act", c, [&](const Variables& v, const Tensors& fixed) {
          return rep_bn_act({v.begin(), v.begin() + static_cast<long>(branches)}, norms(v, fixed),
                            Activation::kSiLU, params);
        });
        if (branches == 1) continue;
        const int64_t out = branches == 3 ? channels : 8;
        LayerCase block;
        block.tolerance = 2e-5;
        block.inputs = {random_tensor({2, 6, 4, channels}, 60),
                        random_tensor({out, 3, 3, channels}, 61),
                        random_tensor({out, 1, 1, channels}, 62)};
        add_norms(block, branches, out);
        check_alike("rep_vgg", block, [&](const Variables& v, const Tensors& fixed) {
          return rep_vgg(v[0], v[1], v[2], norms(v, fixed), branches == 3 ? 1 : 2,
                         Activation::kReLU, params);
        });
      }
}

TEST_CASE("device: activations, pools and copies as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const Activation act :
       {Activation::kReLU, Activation::kSiLU, Activation::kSigmoid, Activation::kMish})
    check_alike("activation", {{random_tensor({3, 5, 7, 3}, 1, -4, 4)}, {}, kRounding},
                [&](const Variables& v, const Tensors&) { return activation(v[0], act); });
  for (const Shape& s : {Shape{1, 1, 1, 1}, Shape{3, 5, 4, 17}, Shape{1, 8, 8, 68}}) {
    const LayerCase c{{random_tensor(s, 2)}};
    if (s[1] > 1)
      check_alike("max_pool2d", c, [](const Variables& v, const Tensors&) {
        return max_pool2d(v[0], {3, 2, 1});
      });
    check_alike("pool_pyramid", c,
                [](const Variables& v, const Tensors&) { return pool_pyramid(v[0], 5); });
    check_alike("average_pool2d", c,
                [](const Variables& v, const Tensors&) { return average_pool2d(v[0], 3); });
    check_alike("upsample", c,
                [](const Variables& v, const Tensors&) { return upsample_nearest(v[0], 2); });
    check_alike("scale", c, [](const Variables& v, const Tensors&) { return scale(v[0], -1.5f); });
  }
  const LayerCase parts{{random_tensor({2, 3, 3, 4}, 3), random_tensor({2, 3, 3, 5}, 4),
                         random_tensor({2, 3, 3, 1}, 5)}};
  check_alike("concat", parts, [](const Variables& v, const Tensors&) { return concat(v); });
  check_alike("slice", {{parts.inputs[1]}},
              [](const Variables& v, const Tensors&) { return slice_channels(v[0], 1, 4); });
}

TEST_CASE("device: sums, fake quantization and distillation as on the host") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const int64_t channels : {1, 17, 68}) {
    const Shape s{2, 5, 3, channels};
    Tensors maps;
    for (uint64_t i = 0; i < 4; ++i) maps.push_back(random_tensor(s, 1 + i));
    const Tensor alpha = Tensor::full({1}, 0.7f);
    check_alike("add", {{maps[0], maps[1]}, {}, kRounding},
                [](const Variables& v, const Tensors&) { return add(v[0], v[1]); });
    check_alike("add with alpha", {{maps[0], maps[1], alpha}, {}, kRounding},
                [](const Variables& v, const Tensors&) { return add(v[0], v[1], v[2]); });
    check_alike("branch_sum", {maps, {}, kRounding},
                [](const Variables& v, const Tensors&) { return branch_sum(v, {}); });
    Tensors scaled = maps;
    for (uint64_t i = 0; i < 4; ++i) scaled.push_back(random_tensor({channels}, 9 + i));
    check_alike("scaled branch_sum", {scaled, {}, kRounding},
                [](const Variables& v, const Tensors&) {
                  return branch_sum({v.begin(), v.begin() + 4}, {v.begin() + 4, v.end()});
                });
    check_alike(
        "weighted_sum", {{maps[0]}, {maps[1]}, kRounding},
        [](const Variables& v, const Tensors& fixed) { return weighted_sum(v[0], fixed[0]); });
    check_alike(
        "fake_quant", {{maps[0]}, {random_tensor({channels}, 8, 0.3, 1.2)}, 0},
        [](const Variables& v, const Tensors& fixed) { return fake_quant(v[0], fixed[0], {}); });
    check_alike("channel_wise_distillation", {{maps[0]}, {maps[1]}, 2e-6},
                [](const Variables& v, const Tensors& fixed) {
                  return channel_wise_distillation(v[0], fixed[0], 2.0);
                });
    check_alike(
        "score_distillation",
        {{maps[0], random_tensor({1, 1, 3, channels}, 5)},
         {maps[1], random_tensor({1, 1, 3, channels}, 6)},
         2e-6},
        [](const Variables& v, const Tensors& fixed) { return score_distillation(v, fixed, 2.0); });
  }
  const Tensor bytes = Tensor::from<uint8_t>({1, 1, 2, 3}, {0, 1, 2, 128, 254, 255});
  const Tensor floats = image_to_float(bytes.to(Device::kCuda));
  CHECK(max_difference(floats.to(Device::kCpu), image_to_float(bytes)) == 0);
}

TEST_CASE("device: under autocast functions compute in 16 bit, near f32") {
  const TestDevice device;
  if (!device.usable()) return;
  // Results and gradients of a chain with everything that a network is made of.
  const LayerCase c{{random_tensor({2, 6, 4, 3}, 1), random_tensor({8, 3, 3, 3}, 2),
                     random_tensor({8, 2, 2, 8}, 3), random_tensor({8}, 4), Tensor::full({1}, 0.7f),
                     random_tensor({8}, 5), random_tensor({8}, 6)}};
  const auto chain = [](DType type) {
    return [type](const Variables& v, const Tensors&) {
      const Autocast autocast(type);
      const Variable a = conv2d(v[0], v[1], v[3], {1, 1, 1});
      CHECK(a.data().dtype() == type);
      const Variable b = silu(conv_transpose2d(a, v[2], v[3]));
      const Variable small = max_pool2d(b, {2, 2, 0});
      const Variable sum = branch_sum({add(a, small, v[4]), add(a, small)}, {v[5], v[6]});
      const Variable wide = concat({pool_pyramid(sum, 5), average_pool2d(scale(sum, 0.5f), 3)});
      const Variable y = upsample_nearest(slice_channels(wide, 3, 37), 2);
      CHECK(y.data().dtype() == type);
      return cast(y, DType::kF32);
    };
  };
  const Tensors exact = run_layer(chain(DType::kF32), c, Device::kCuda);
  for (const auto& [type, bound] : {std::pair{DType::kF16, 4e-3}, std::pair{DType::kBF16, 3e-2}}) {
    const Tensors rounded = run_layer(chain(type), c, Device::kCuda);
    REQUIRE(rounded.size() == exact.size());
    double worst = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      CAPTURE(name_of(type), i);
      const double d = relative_difference(rounded[i], exact[i]);
      // A maximum may change places by rounding, and its gradient with it.
      CHECK(d < (i == 0 ? bound : 12 * bound));
      worst = std::max(worst, d);
    }
    CHECK(worst > bound / 100);  // it did round
  }
  // On the host nothing changes.
  const Autocast autocast(DType::kF16);
  const Variable x(c.inputs[0]), w(c.inputs[1]);
  CHECK(conv2d(x, w, {}, {1, 1, 1}).data().dtype() == DType::kF32);
  const Variable there(c.inputs[0].to(Device::kCuda)), weight(c.inputs[1].to(Device::kCuda));
  const Variable half = conv2d(there, weight, {}, {1, 1, 1});
  CHECK(weight_as(weight, DType::kF16).raw() == weight_as(weight, DType::kF16).raw());  // cast once
  CHECK(error_of([&] { add(half, cast(half, DType::kF32)); }) ==
        "add: inputs of type F16 and F32, expected one type");
  CHECK(error_of([] { Autocast(DType::kI8); }) == "autocast: type I8, must be F32, F16 or BF16");
}

TEST_CASE("device: inputs on two devices are refused by name") {
  const TestDevice device;
  if (!device.usable()) return;
  const Variable here(random_tensor({1, 4, 4, 3}, 1)), there(here.data().to(Device::kCuda));
  const Variable weight(random_tensor({3, 3, 3, 3}, 2).to(Device::kCuda));
  const auto message = [](const char* name) {
    return std::string(name) + ": inputs on cpu and on cuda, expected one device";
  };
  CHECK(error_of([&] { conv2d(here, weight, {}, {1, 1, 1}); }) == message("conv2d"));
  CHECK(error_of([&] { add(here, there); }) == message("add"));
  CHECK(error_of([&] { concat({here, there}); }) == message("concat"));
  CHECK(error_of([&] { branch_sum({here, there}, {}); }) == message("branch_sum"));
  CHECK(error_of([&] { weighted_sum(here, there.data()); }) == message("weighted_sum"));
  CHECK(error_of([&] { score_distillation({there}, {here.data()}); }) ==
        "score_distillation: inputs on cuda and on cpu, expected one device");
}

TEST_CASE("device: a module moves there and back, keeping its parameters and state dict") {
  const TestDevice device;
  if (!device.usable()) return;
  Rng rng(3);
  RepVGGBlock block(4, 4, 1, rng);
  SafeTensors before;
  block.save_state(before);
  const std::vector<ParameterRef> parameters = block.parameters();
  block.to(Device::kCuda);
  for (const ParameterRef& p : parameters) CHECK(p.variable.data().device() == Device::kCuda);
  const Variable x(random_tensor({2, 4, 4, 4}, 1).to(Device::kCuda));
  const Variable y = block.forward(x);
  backward({{y, Tensor::full(y.shape(), 1.0f, Device::kCuda)}});
  for (const ParameterRef& p : parameters) CHECK(p.variable.grad().device() == Device::kCuda);

  SafeTensors moved;  // running statistics and counters have gone on
  block.save_state(moved);
  REQUIRE(moved.tensors.size() == before.tensors.size());
  CHECK(max_difference(moved.at("rbr_dense.bn.running_mean"),
                       before.at("rbr_dense.bn.running_mean")) > 0);
  CHECK(*moved.at("rbr_dense.bn.num_batches_tracked").data<int64_t>() == 1);
  block.load_state(before);
  block.to(Device::kCpu);
  SafeTensors after;
  block.save_state(after);
  for (const auto& [name, t] : before.tensors) {
    CAPTURE(name);
    const Tensor& now = after.at(name);
    CHECK(std::equal(static_cast<const char*>(t.raw()),
                     static_cast<const char*>(t.raw()) + t.bytes(),
                     static_cast<const char*>(now.raw())));
  }
}

}  // namespace
}  // namespace sextant::test
