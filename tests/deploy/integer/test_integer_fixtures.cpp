// SPDX-License-Identifier: Apache-2.0
// pytorch-quantization-demo's integer networks: asymmetric u8 activations and weights. Every
// layer's integers are reproduced exactly, from its stored integers and from its float parameters
// and ranges.
#include <cmath>
#include <cstring>
#include <sstream>

#include "core/config.h"
#include "deploy/integer/conv.h"
#include "deploy/integer/lower.h"
#include "deploy/integer/rescale.h"
#include "kernels/backend.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

constexpr int32_t kToSigned = 128;  // u8 weights are held in s8

// Layer k's parameters, by the names of the fixture.
class Fixture {
 public:
  explicit Fixture(const SafeTensors& file) : file_(file) {}

  AffineScale range(const std::string& layer, const std::string& which) const {
    const std::string key = "qparam." + layer + "." + which;
    return {file_.at(key + ".scale").f32()[0],
            static_cast<int32_t>(file_.at(key + ".zero_point").f32()[0])};
  }
  float number(const std::string& name) const { return file_.at(name).f32()[0]; }
  // OIHW -> OHWI; a linear layer sees the flattened NCHW of `in` as a kernel of its size.
  Tensor weight(const std::string& name, const Shape& in) const {
    Tensor w = file_.at(name);
    Tensor f(w.shape());
    for (int64_t i = 0; i < w.numel(); ++i)
      f.f32()[i] = w.dtype() == DType::kI64 ? static_cast<float>(w.data<int64_t>()[i]) : w.f32()[i];
    if (w.shape().rank() == 2) f = f.reshape({w.dim(0), in[3], in[1], in[2]});
    return nchw_to_nhwc(f);
  }
  const Tensor& at(const std::string& name) const { return file_.at(name); }
  const Tensor* find(const std::string& name) const { return file_.find(name); }
  const std::string& meta(const std::string& name) const { return file_.meta(name); }

 private:
  const SafeTensors& file_;
};

// As the demo folds a batch-norm: w gamma / std, gamma (b - mean) / std + beta.
void fold_batch_norm(const Fixture& f, const std::string& number, RealConv& real) {
  const std::string bn = "param.bn" + number;
  if (!f.find(bn + ".weight")) return;
  const float eps = std::stof(f.meta("bn_eps"));
  real.weight = real.weight.clone();
  real.bias = real.bias.clone();
  const int64_t n = real.weight.numel() / real.weight.dim(0);
  for (int64_t o = 0; o < real.weight.dim(0); ++o) {
    const auto p = [&](const char* name) { return f.at(bn + "." + name).f32()[o]; };
    const float factor = p("weight") / std::sqrt(p("running_var") + eps);
    for (int64_t i = 0; i < n; ++i) real.weight.f32()[o * n + i] *= factor;
    real.bias.f32()[o] = factor * (real.bias.f32()[o] - p("running_mean")) + p("bias");
  }
}

struct Layer {
  IntegerConv conv;
  Rescale rescale;
  AffineScale out;
};

// From the frozen integers and M.
Layer frozen_layer(const Fixture& f, const std::string& name, const Shape& in,
                   const AffineScale& source) {
  Layer l;
  l.out = f.range(name, "qo");
  l.conv.zero_point = source.zero_point;
  l.conv.weight_zero_point = f.range(name, "qw").zero_point - kToSigned;
  const Tensor w = f.weight("frozen." + name + ".qweight_minus_zp", in);
  l.conv.weight = Tensor(w.shape(), DType::kI8);
  for (int64_t i = 0; i < w.numel(); ++i)
    l.conv.weight.data<int8_t>()[i] =
        static_cast<int8_t>(static_cast<int32_t>(w.f32()[i]) + l.conv.weight_zero_point);
  const Multiplier m = multiplier_of(f.number("frozen." + name + ".M"));
  for (const int64_t b : f.at("frozen." + name + ".qbias").span<int64_t>()) {
    l.rescale.bias.push_back(static_cast<int32_t>(b));
    l.rescale.mantissa.push_back(m.mantissa);
    l.rescale.negative.push_back(m.mantissa);
    l.rescale.shift.push_back(m.shift);
    l.rescale.fraction.push_back(0);
    l.rescale.fraction_negative.push_back(0);
  }
  l.rescale.zero_point = l.out.zero_point;
  return l;
}

// From float parameters and ranges.
Layer lowered_layer(const Fixture& f, const std::string& name, const Shape& in,
                    const AffineScale& source) {
  RealConv real;
  real.weight = f.weight("param." + name.substr(1) + ".weight", in);
  real.bias = f.at("param." + name.substr(1) + ".bias");
  if (name.starts_with("qconv")) fold_batch_norm(f, name.substr(5), real);
  const AffineScale w = f.range(name, "qw");
  real.weight_scale.assign(static_cast<size_t>(real.weight.dim(0)), static_cast<float>(w.scale));
  real.weight_zero_point = w.zero_point;
  real.source = source;
  real.destination = f.range(name, "qo");
  Layer l;
  l.out = real.destination;
  l.rescale = lower_conv(real, l.conv);
  // the demo drops what rounding a bias leaves
  std::fill(l.rescale.fraction.begin(), l.rescale.fraction.end(), 0);
  l.rescale.fraction_negative = l.rescale.fraction;
  return l;
}

// A layer's u8 outputs in the fixture, NHWC.
Tensor expected(const Fixture& f, size_t k, const std::string& layer) {
  const Tensor& t = f.at("output.int." + std::to_string(k) + "_" + layer);
  return t.shape().rank() == 2 ? t.reshape({t.dim(0), 1, 1, t.dim(1)}) : nchw_to_nhwc(t);
}

int64_t differing_bytes(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  int64_t n = 0;
  for (int64_t i = 0; i < a.numel(); ++i) n += a.data<uint8_t>()[i] != b.data<uint8_t>()[i];
  return n;
}

// The demo multiplies in f32: with product_bits 24 so do we, without them with the exact product.
Tensor run_conv(Layer& l, const Tensor& x, int64_t groups, int32_t product_bits) {
  l.rescale.product_bits = product_bits;
  IntegerConv& c = l.conv;
  c.batch = x.dim(0);
  c.height = x.dim(1);
  c.width = x.dim(2);
  c.groups = groups;
  c.out_height = c.height - c.weight.dim(1) + 1;
  c.out_width = c.width - c.weight.dim(2) + 1;
  const Shape out{c.batch, c.out_height, c.out_width, c.weight.dim(0)};
  const Tensor sums(out, DType::kI32), y(out, DType::kU8);
  integer_conv(c, x.data<uint8_t>(), x.dim(3), sums.data<int32_t>());
  rescale_rows<uint8_t>(l.rescale, {.sums = sums.data<int32_t>(),
                                    .residual = nullptr,
                                    .y = y.data<uint8_t>(),
                                    .rows = c.out_rows(),
                                    .residual_pitch = 0,
                                    .y_pitch = out[3]});
  return y;
}

Tensor run_pool(const Tensor& x) {
  const Shape out{x.dim(0), x.dim(1) / 2, x.dim(2) / 2, x.dim(3)};
  const Tensor y(out, DType::kU8);
  kernels::backend(Device::kCpu)
      .max_pool_strided({.source = x.raw(),
                         .destination = y.raw(),
                         .dtype = DType::kU8,
                         .batch = x.dim(0),
                         .height = x.dim(1),
                         .width = x.dim(2),
                         .channels = x.dim(3),
                         .out_height = out[1],
                         .out_width = out[2],
                         .kernel = 2,
                         .stride = 2,
                         .source_pitch = x.dim(3),
                         .destination_pitch = x.dim(3)});
  return y;
}

void check_network(const SafeTensors& file, bool frozen) {
  const Fixture f(file);
  std::vector<std::string> layers;
  std::stringstream list(f.meta("layers"));
  for (std::string name; std::getline(list, name, ',');) layers.push_back(name);
  REQUIRE(std::ranges::any_of(layers, [](const auto& l) { return l.starts_with("qconv"); }));
  AffineScale scale = f.range("qconv1", "qi");
  Tensor x = nchw_to_nhwc(f.at("output.int.0_input"));
  for (size_t k = 0; k < layers.size(); ++k) {
    const std::string& name = layers[k];
    CAPTURE(name);
    Tensor y;
    if (name.starts_with("qconv") || name == "qfc") {
      Layer l = frozen ? frozen_layer(f, name, x.shape(), scale)
                       : lowered_layer(f, name, x.shape(), scale);
      if (!frozen) {  // the integers are the demo's own
        const Layer stored = frozen_layer(f, name, x.shape(), scale);
        CHECK(std::memcmp(l.conv.weight.raw(), stored.conv.weight.raw(),
                          static_cast<size_t>(l.conv.weight.numel())) == 0);
        CHECK(l.rescale.bias == stored.rescale.bias);
        CHECK(l.conv.weight_zero_point == stored.conv.weight_zero_point);
      }
      const int64_t groups = name == "qconv2" ? std::stoll(f.meta("conv2_groups")) : 1;
      y = run_conv(l, x, groups, 24);
      const int64_t on_ties = differing_bytes(run_conv(l, x, groups, 0), y);
      CHECK(on_ties <= (frozen ? 1 : 30));
      scale = l.out;
    } else if (name.starts_with("qrelu")) {
      y = x.clone();
      for (uint8_t& v : y.span<uint8_t>()) v = std::max(v, static_cast<uint8_t>(scale.zero_point));
    } else {
      REQUIRE(name.starts_with("qmaxpool"));
      y = run_pool(x);
    }
    const Tensor want = expected(f, k + 1, name);
    CHECK(differing_bytes(y, want) == 0);
    CHECK(differing_bytes(y, Tensor::zeros(want.shape(), DType::kU8)) > 0);
    x = y;
  }
  for (int64_t i = 0; i < x.numel(); ++i)
    CHECK(static_cast<float>(scale.scale) *
              static_cast<float>(x.data<uint8_t>()[i] - scale.zero_point) ==
          f.at("output.dequantized").f32()[i]);
}

}  // namespace

TEST_CASE("full_integer_*: every layer's integers, from the frozen integers and M") {
  for (const std::string& name : test::fixture_names("quant/full_integer_")) {
    INFO(name);
    check_network(*test::fixture(name), true);
  }
}

TEST_CASE("full_integer_*: every layer's integers, from float parameters and ranges") {
  for (const std::string& name : test::fixture_names("quant/full_integer_")) {
    INFO(name);
    check_network(*test::fixture(name), false);
  }
}
