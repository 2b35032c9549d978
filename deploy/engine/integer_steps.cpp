// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/integer_steps.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "deploy/engine/conv_step.h"
#include "deploy/integer/decode.h"
#include "deploy/integer/multiplier.h"
#include "kernels/strided.h"

namespace sextant::deploy {
namespace {

// Calls f with a value of an 8-bit place's element type.
template <class F>
void dispatch_bytes(DType type, F&& f) {
  if (type == DType::kU8) return f(uint8_t{});
  check(type == DType::kI8, "integer: a step on {} that wants bytes", name_of(type));
  f(int8_t{});
}

template <class T>
T saturated_byte(int64_t v) {
  return static_cast<T>(
      std::clamp<int64_t>(v, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
}

std::unique_ptr<Step> plain_sums_step(const IntegerConv& conv, const Place& source,
                                      const Place& sums) {
  auto step = make_step("conv", {source.storage, sums.storage}, [=](const Bases& bases) {
    dispatch_bytes(source.dtype, [&](auto zero) {
      integer_conv(conv, source.as<decltype(zero)>(bases), source.pitch, sums.as<int32_t>(bases));
    });
  });
  step->implementation = "plain";
  step->weight_bytes = conv.weight.numel();
  step->flops = 2.0 * static_cast<double>(conv.out_rows() * conv.weight.numel());
  return step;
}

}  // namespace

std::unique_ptr<Step> make_sums_step(const IntegerConv& conv, const Place& source,
                                     const Place& sums, bool plain) {
  if (!plain && conv.zero_point == 0 && conv.weight_zero_point == 0) {
    ConvSpec spec;
    spec.source = source;
    spec.destination = sums;
    spec.batch = conv.batch;
    spec.height = conv.height;
    spec.width = conv.width;
    spec.out_height = conv.out_height;
    spec.out_width = conv.out_width;
    spec.stride = conv.stride;
    spec.padding = conv.padding;
    spec.groups = conv.groups;
    spec.weight = conv.weight;
    spec.integer = spec.sums = true;
    return make_conv_step(spec);
  }
  return plain_sums_step(conv, source, sums);
}

std::unique_ptr<Step> make_rescale_step(const Rescale& rescale, const Place& sums,
                                        const Place* residual, const Place& destination,
                                        int64_t rows) {
  std::vector<int> touched = {sums.storage, destination.storage};
  if (residual) touched.push_back(residual->storage);
  const Place r = residual ? *residual : Place{};
  const bool has_residual = residual != nullptr;
  auto step = make_step("rescale", touched, [=](const Bases& bases) {
    dispatch_type(destination.dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_integral_v<T>)
        rescale_rows<T>(rescale, {.sums = sums.as<int32_t>(bases),
                                  .residual = has_residual ? r.as<T>(bases) : nullptr,
                                  .y = destination.as<T>(bases),
                                  .rows = rows,
                                  .residual_pitch = r.pitch,
                                  .y_pitch = destination.pitch});
    });
  });
  step->weight_bytes = rescale.bytes();
  return step;
}

std::unique_ptr<Step> make_integer_add_step(const Place& a, const Place& b, const Place& y,
                                            int64_t rows, float factor) {
  const int64_t fixed = addend_of(factor, kFactorBits);
  return make_step("add", {a.storage, b.storage, y.storage}, [=](const Bases& bases) {
    dispatch_bytes(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      integer_add<T>({.a = a.as<T>(bases),
                      .b = b.as<T>(bases),
                      .y = y.as<T>(bases),
                      .rows = rows,
                      .channels = y.channels,
                      .a_pitch = a.pitch,
                      .b_pitch = b.pitch,
                      .y_pitch = y.pitch,
                      .factor = fixed});
    });
  });
}

std::unique_ptr<Step> make_integer_multiply_step(const Place& a, const Place& b, const Place& y,
                                                 int64_t batch, int64_t pixels, bool b_per_image,
                                                 double factor) {
  const Multiplier m = multiplier_of(factor);
  return make_step("multiply", {a.storage, b.storage, y.storage}, [=](const Bases& bases) {
    dispatch_bytes(a.dtype, [&](auto a_zero) {
      dispatch_bytes(b.dtype, [&](auto b_zero) {
        dispatch_bytes(y.dtype, [&](auto y_zero) {
          using Y = decltype(y_zero);
          const auto* pa = a.as<decltype(a_zero)>(bases);
          const auto* pb = b.as<decltype(b_zero)>(bases);
          Y* py = y.as<Y>(bases);
          parallel_for(batch * pixels, 1 + 32768 / y.channels, [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r) {
              const auto* row_a = pa + r * a.pitch;
              const auto* row_b = pb + (b_per_image ? r / pixels : r) * b.pitch;
              for (int64_t c = 0; c < y.channels; ++c)
                py[r * y.pitch + c] = saturated_byte<Y>(multiply(int32_t{row_a[c]} * row_b[c], m));
            }
          });
        });
      });
    });
  });
}

std::unique_ptr<Step> make_integer_average_step(const Place& source, const Place& destination,
                                                const Shape& shape, double factor) {
  const int64_t pixels = shape[1] * shape[2];
  check(pixels <= kernels::kMostAveragedPixels,
        "integer: the sum of {} pixels can overflow 32 bits", pixels);
  const Multiplier m = multiplier_of(factor / static_cast<double>(pixels));
  return make_step("average", {source.storage, destination.storage}, [=](const Bases& bases) {
    dispatch_bytes(source.dtype, [&](auto x_zero) {
      dispatch_bytes(destination.dtype, [&](auto y_zero) {
        using Y = decltype(y_zero);
        const auto* x = source.as<decltype(x_zero)>(bases);
        Y* y = destination.as<Y>(bases);
        parallel_for(shape[0], 1, [&](int64_t begin, int64_t end) {
          std::vector<int32_t> sums(static_cast<size_t>(source.channels));
          for (int64_t n = begin; n < end; ++n) {
            std::fill(sums.begin(), sums.end(), 0);
            for (int64_t i = n * pixels; i < (n + 1) * pixels; ++i)
              for (int64_t c = 0; c < source.channels; ++c)
                sums[static_cast<size_t>(c)] += x[i * source.pitch + c];
            for (int64_t c = 0; c < source.channels; ++c)
              y[n * destination.pitch + c] =
                  saturated_byte<Y>(multiply(sums[static_cast<size_t>(c)], m));
          }
        });
      });
    });
  });
}

std::unique_ptr<Step> make_widen_step(const Place& source, double scale, const Place& destination,
                                      int64_t rows) {
  std::array<int32_t, 256> table{};  // by bit pattern
  for (int i = 0; i < 256; ++i) {
    const int q = source.dtype == DType::kI8 ? static_cast<int8_t>(i) : i;
    table[static_cast<size_t>(i)] = static_cast<int32_t>(
        std::clamp(std::nearbyint(std::ldexp(q * scale, kHeadBits)), -0x1p30, 0x1p30));
  }
  return make_step("widen", {source.storage, destination.storage}, [=](const Bases& bases) {
    const uint8_t* x = source.as<uint8_t>(bases);
    int32_t* y = destination.as<int32_t>(bases);
    parallel_for(rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < source.channels; ++c)
          y[r * destination.pitch + c] = table[x[r * source.pitch + c]];
    });
  });
}

std::unique_ptr<Step> make_integer_decode_step(const std::vector<Place>& sources,
                                               const std::vector<Shape>& shapes,
                                               const Place& destination,
                                               const DecodeAttributes& attributes) {
  std::vector<int> touched{destination.storage};
  for (const Place& p : sources) touched.push_back(p.storage);
  IntegerDecode decode;
  decode.levels = static_cast<int>(attributes.strides.size());
  decode.batch = shapes[0][0];
  decode.classes = attributes.num_classes;
  decode.reg_max = attributes.reg_max;
  decode.cell_offset =
      static_cast<int64_t>(std::nearbyint(std::ldexp(attributes.grid_cell_offset, kHeadBits)));
  const size_t maps = attributes.maps_per_level();
  for (size_t l = 0; l < attributes.strides.size(); ++l) {
    decode.level[l].height = shapes[maps * l][1];
    decode.level[l].width = shapes[maps * l][2];
    decode.level[l].stride = attributes.strides[l];
  }
  sigmoid_table();  // made now, not while running
  exp_table();
  return make_step("decode", touched, [=](const Bases& bases) {
    IntegerDecode p = decode;
    for (size_t l = 0; l < sources.size() / maps; ++l) {
      p.level[l].cls = sources[maps * l].as<int32_t>(bases);
      p.level[l].reg = sources[maps * l + 1].as<int32_t>(bases);
      if (maps == 3) p.level[l].obj = sources[maps * l + 2].as<int32_t>(bases);
    }
    integer_decode(p, destination.as<int32_t>(bases));
  });
}

}  // namespace sextant::deploy
