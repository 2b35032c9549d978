#include "deploy/data_steps.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "core/parallel.h"
#include "deploy/data_kernels.h"
#include "kernels/decode.h"

namespace sextant::deploy {
namespace {

// Calls f with a value of the place's element type; what is added or compared is no 32-bit integer.
template <class F>
void dispatch(DType type, F&& f) {
  dispatch_type(type, [&](auto zero) {
    if constexpr (std::is_same_v<decltype(zero), int32_t>)
      fail("deploy: a step on 32-bit integers");
    else
      f(zero);
  });
}

int64_t bytes_of(const Place& p) { return p.channels * size_of(p.dtype); }
int64_t pitch_bytes(const Place& p) { return p.pitch * size_of(p.dtype); }

float quantized(float v, const Meaning& m) {
  v = std::nearbyint(v / m.scale);
  return v >= m.low() ? (v <= m.high() ? v : m.high()) : m.low();  // NaN becomes low
}

template <class From, class To, Activation A>
void map_rows(const From* x, To* y, const Place& from, const Place& to, const Meaning& in,
              const Meaning& out, int64_t begin, int64_t end) {
  const float in_scale = in.quantized ? in.scale : 1.0f;
  for (int64_t r = begin; r < end; ++r) {
    const From* source = x + r * from.pitch;
    To* destination = y + r * to.pitch;
    for (int64_t c = 0; c < from.channels; ++c) {
      const float v = kernels::activate<A>(static_cast<float>(source[c]) * in_scale);
      destination[c] = static_cast<To>(out.quantized ? quantized(v, out) : v);
    }
  }
}

// The result for each of the 256 values of a byte, by its bit pattern.
template <class From, class To>
std::array<To, 256> make_table(const Meaning& from, const Meaning& to, Activation activation) {
  std::array<To, 256> table{};
  kernels::dispatch_activation(activation, [&](auto tag) {
    for (int i = 0; i < 256; ++i) {
      const From q = static_cast<From>(i);
      const float v = kernels::activate<decltype(tag)::value>(static_cast<float>(q) * from.scale);
      table[static_cast<size_t>(i)] = static_cast<To>(quantized(v, to));
    }
  });
  return table;
}

template <class From, class To>
std::unique_ptr<Step> table_step(const char* kind, const Place& source, const Meaning& from,
                                 const Place& destination, const Meaning& to, int64_t rows,
                                 Activation activation) {
  const auto table = make_table<From, To>(from, to, activation);
  return make_step(kind, {source.storage, destination.storage}, [=](const Bases& bases) {
    const uint8_t* x = source.as<uint8_t>(bases);
    To* y = destination.as<To>(bases);
    parallel_for(rows, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < source.channels; ++c)
          y[r * destination.pitch + c] = table[x[r * source.pitch + c]];
    });
  });
}

template <class From, class To>
std::unique_ptr<Step> map_step(const char* kind, const Place& source, const Meaning& from,
                               const Place& destination, const Meaning& to, int64_t rows,
                               Activation activation) {
  return make_step(kind, {source.storage, destination.storage}, [=](const Bases& bases) {
    const From* x = source.as<From>(bases);
    To* y = destination.as<To>(bases);
    kernels::dispatch_activation(activation, [&](auto tag) {
      parallel_for(rows, 256, [&](int64_t begin, int64_t end) {
        map_rows<From, To, decltype(tag)::value>(x, y, source, destination, from, to, begin, end);
      });
    });
  });
}

}  // namespace

std::unique_ptr<Step> make_input_step(const Place& pixels, const Place& image, int64_t n,
                                      bool simulate) {
  return make_step("input", {pixels.storage, image.storage}, [=](const Bases& bases) {
    const uint8_t* x = pixels.as<uint8_t>(bases);
    float* y = image.as<float>(bases);
    const float divisor = simulate ? 1.0f : 255.0f;
    parallel_for(n, 1 << 15, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(x[i]) / divisor;
    });
  });
}

std::unique_ptr<Step> make_copy_step(const Place& source, const Place& destination, int64_t rows) {
  return make_step("copy", {source.storage, destination.storage}, [=](const Bases& bases) {
    copy_rows({.source = source.at(bases),
               .destination = destination.at(bases),
               .rows = rows,
               .bytes = bytes_of(source),
               .source_pitch = pitch_bytes(source),
               .destination_pitch = pitch_bytes(destination)});
  });
}

std::unique_ptr<Step> make_scatter_step(const Place& source, const Place& destination,
                                        const Shape& shape) {
  return make_step("scatter", {source.storage, destination.storage}, [=](const Bases& bases) {
    scatter_2x2({.source = source.at(bases),
                 .destination = destination.at(bases),
                 .batch = shape[0],
                 .height = shape[1],
                 .width = shape[2],
                 .bytes = bytes_of(destination),
                 .destination_pitch = pitch_bytes(destination)});
  });
}

std::unique_ptr<Step> make_upsample_step(const Place& source, const Place& destination,
                                         const Shape& shape, int64_t scale) {
  return make_step("upsample", {source.storage, destination.storage}, [=](const Bases& bases) {
    upsample({.source = source.at(bases),
              .destination = destination.at(bases),
              .batch = shape[0],
              .height = shape[1],
              .width = shape[2],
              .scale = scale,
              .bytes = bytes_of(source),
              .source_pitch = pitch_bytes(source),
              .destination_pitch = pitch_bytes(destination)});
  });
}

std::unique_ptr<Step> make_max_pool_step(const Place& source, const Place& destination,
                                         const Shape& shape, const Shape& out,
                                         const Attributes& attributes) {
  const int64_t kernel = attributes.kernel;
  const int64_t stride = attributes.stride;
  const int64_t padding = attributes.padding;
  return make_step("max_pool", {source.storage, destination.storage}, [=](const Bases& bases) {
    dispatch(source.dtype, [&](auto zero) {
      using T = decltype(zero);
      max_pool<T>({.source = source.as<T>(bases),
                   .destination = destination.as<T>(bases),
                   .batch = shape[0],
                   .height = shape[1],
                   .width = shape[2],
                   .channels = shape[3],
                   .out_height = out[1],
                   .out_width = out[2],
                   .kernel = kernel,
                   .stride = stride,
                   .padding = padding,
                   .source_pitch = source.pitch,
                   .destination_pitch = destination.pitch});
    });
  });
}

std::unique_ptr<Step> make_global_avg_pool_step(const Place& source, const Place& destination,
                                                const Shape& shape) {
  return make_step(
      "global_avg_pool", {source.storage, destination.storage}, [=](const Bases& bases) {
        const int64_t pixels = shape[1] * shape[2];
        const int64_t channels = shape[3];
        for (int64_t n = 0; n < shape[0]; ++n) {
          const float* x = source.as<float>(bases) + n * pixels * channels;
          float* y = destination.as<float>(bases) + n * destination.pitch;
          parallel_for(channels, 64, [&](int64_t begin, int64_t end) {
            std::vector<double> sum(static_cast<size_t>(end - begin), 0.0);
            for (int64_t p = 0; p < pixels; ++p)
              for (int64_t c = begin; c < end; ++c)
                sum[static_cast<size_t>(c - begin)] += static_cast<double>(x[p * channels + c]);
            for (int64_t c = begin; c < end; ++c)
              y[c] = static_cast<float>(sum[static_cast<size_t>(c - begin)] /
                                        static_cast<double>(pixels));
          });
        }
      });
}

std::unique_ptr<Step> make_softmax_step(const Place& source, const Place& destination,
                                        int64_t rows) {
  return make_step("softmax", {source.storage, destination.storage}, [=](const Bases& bases) {
    parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float* x = source.as<float>(bases) + r * source.pitch;
        float* y = destination.as<float>(bases) + r * destination.pitch;
        const float largest = *std::max_element(x, x + source.channels);
        float sum = 0;
        for (int64_t c = 0; c < source.channels; ++c) {
          y[c] = kernels::fast_exp(x[c] - largest);
          sum += y[c];
        }
        for (int64_t c = 0; c < source.channels; ++c) y[c] /= sum;
      }
    });
  });
}

std::unique_ptr<Step> make_add_step(const Place& a, const Place& b, const Place& y, int64_t rows,
                                    const Meaning& meaning, float factor) {
  return make_step("add", {a.storage, b.storage, y.storage}, [=](const Bases& bases) {
    dispatch(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      add_rows<T>({.a = a.as<T>(bases),
                   .b = b.as<T>(bases),
                   .y = y.as<T>(bases),
                   .rows = rows,
                   .channels = y.channels,
                   .a_pitch = a.pitch,
                   .b_pitch = b.pitch,
                   .y_pitch = y.pitch,
                   .low = meaning.quantized ? meaning.low() : 0.0f,
                   .high = meaning.quantized ? meaning.high() : 0.0f,
                   .factor = factor});
    });
  });
}

std::unique_ptr<Step> make_map_step(const Place& source, const Meaning& from,
                                    const Place& destination, const Meaning& to, int64_t rows,
                                    Activation activation) {
  const char* kind = activation == Activation::kIdentity ? "convert" : "activation";
  std::unique_ptr<Step> result;
  dispatch(source.dtype, [&](auto x) {
    dispatch(destination.dtype, [&](auto y) {
      using From = decltype(x);
      using To = decltype(y);
      if constexpr (sizeof(From) == 1 && sizeof(To) == 1)
        result = table_step<From, To>(kind, source, from, destination, to, rows, activation);
      else
        result = map_step<From, To>(kind, source, from, destination, to, rows, activation);
    });
  });
  return result;
}

std::unique_ptr<Step> make_decode_step(const std::vector<Place>& sources,
                                       const std::vector<Shape>& shapes, const Place& destination,
                                       const Attributes& attributes) {
  std::vector<int> touched{destination.storage};
  for (const Place& p : sources) touched.push_back(p.storage);
  kernels::Decode decode;
  decode.levels = static_cast<int>(attributes.strides.size());
  decode.batch = shapes[0][0];
  decode.classes = attributes.num_classes;
  decode.reg_max = attributes.reg_max;
  decode.cell_offset = attributes.grid_cell_offset;
  const size_t maps = attributes.maps_per_level();
  for (size_t l = 0; l < attributes.strides.size(); ++l) {
    decode.level[l].height = shapes[maps * l][1];
    decode.level[l].width = shapes[maps * l][2];
    decode.level[l].stride = static_cast<float>(attributes.strides[l]);
  }
  return make_step("decode", touched, [=](const Bases& bases) {
    kernels::Decode p = decode;
    for (size_t l = 0; l < sources.size() / maps; ++l) {
      p.level[l].cls = sources[maps * l].as<float>(bases);
      p.level[l].reg = sources[maps * l + 1].as<float>(bases);
      if (maps == 3) p.level[l].obj = sources[maps * l + 2].as<float>(bases);
    }
    kernels::cpu::decode(p, destination.as<float>(bases));
  });
}

}  // namespace sextant::deploy
