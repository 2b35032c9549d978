// SPDX-License-Identifier: Apache-2.0
#include "kernels/strided.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/half.h"
#include "simt/cases/cases.h"
#include "simt/cases/strided.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

template <class T>
constexpr DType type_of() {
  if constexpr (std::is_same_v<T, Half>)
    return DType::kF16;
  else
    return DTypeOf<T>::value;
}
template <class T>
std::vector<T> numbers(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<T> out(static_cast<size_t>(n));
  for (T& v : out) {
    if constexpr (std::is_same_v<T, Half>)
      v = to_half(static_cast<float>(rng.uniform(-4, 4)));
    else if constexpr (std::is_same_v<T, float>)
      v = static_cast<float>(rng.uniform(-4, 4));
    else
      v = static_cast<T>(rng.below(256));
  }
  return out;
}
float as_float(float v) { return v; }
float as_float(Half v) { return to_float(v); }
float as_float(uint8_t v) { return v; }
float as_float(int8_t v) { return v; }

// `exact`: to the bit, else floats within 2e-6 (in f16 a rounding more) and integers within one.
template <class T>
void compare(const std::vector<T>& got, const std::vector<T>& twin, bool exact) {
  REQUIRE(got.size() == twin.size());
  int wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &twin[i], sizeof(T)) == 0) continue;
    const float a = as_float(got[i]), b = as_float(twin[i]);
    const float allowed = std::is_integral_v<T>     ? 1.0f
                          : std::is_same_v<T, Half> ? 1e-3f * (1 + std::abs(b))
                                                    : 2e-6f * (1 + std::abs(b));
    const bool both_nan = std::isnan(a) && std::isnan(b);
    wrong += !both_nan && (exact || !(std::abs(a - b) <= allowed));
  }
  CHECK(wrong == 0);
}

// --- moving -------------------------------------------------------------------------------------

struct Move {
  int64_t bytes, source_gap, destination_gap, offset;
};
const Move kMoves[] = {{1, 0, 0, 0},    {3, 1, 0, 1},  {17, 0, 3, 0}, {68, 0, 4, 4},
                       {64, 32, 16, 0}, {24, 8, 8, 8}, {34, 2, 0, 2}};
struct Map {
  int64_t n, h, w;
};
const Map kMaps[] = {{1, 1, 1}, {3, 2, 5}, {1, 9, 7}};

// Runs `kernel` on both sides; `make` fills in its parameters for a source and a destination.
template <class P>
void check_move(TestGpu& gpu, const Move& m, int64_t source_rows, int64_t destination_rows,
                const P& p, void (kernels::Backend::*twin)(const P&) const,
                void (*kernel)(const P&, void*, Stream)) {
  CAPTURE(m.bytes, m.source_gap, m.destination_gap, m.offset, source_rows);
  const auto x = numbers<uint8_t>(source_rows * (m.bytes + m.source_gap), 1);
  auto y = numbers<uint8_t>(destination_rows * (m.bytes + m.destination_gap), 2);
  const DeviceArrayOf<uint8_t> from(gpu, x, m.offset), to(gpu, y, m.offset);
  P here = p;
  here.source = x.data();
  here.destination = y.data();
  (host_kernels().*twin)(here);
  P there = p;
  there.source = from.data();
  there.destination = to.data();
  start(gpu, kernel, there);
  CHECK(to.values() == y);
  from.require_unchanged();
}

void check_moves(TestGpu& gpu, const Move& m) {
  const int64_t s = m.bytes + m.source_gap, d = m.bytes + m.destination_gap;
  for (const int64_t rows : {0, 1, 300}) {
    CopyStrided p;
    p.rows = rows;
    p.bytes = m.bytes;
    p.source_pitch = s;
    p.destination_pitch = d;
    check_move(gpu, m, rows, rows, p, &kernels::Backend::copy_strided, cuda::copy_strided);
  }
  for (const Map& map : kMaps) {
    const int64_t pixels = map.n * map.h * map.w;
    for (const int64_t scale : {1, 2, 3}) {
      UpsampleStrided p;
      p.batch = map.n;
      p.height = map.h;
      p.width = map.w;
      p.scale = scale;
      p.bytes = m.bytes;
      p.source_pitch = s;
      p.destination_pitch = d;
      check_move(gpu, m, pixels, pixels * scale * scale, p, &kernels::Backend::upsample_strided,
                 cuda::upsample_strided);
    }
    for (const auto [scale, bottom, right, columns] : {std::array<int64_t, 4>{2, 0, 0, 0},
                                                       {2, 1, 0, 0},
                                                       {3, 1, 2, 0},
                                                       {1, 0, 0, 0},
                                                       {1, 0, 1, 2},
                                                       {3, 2, 0, 1}}) {
      DepthToSpace p;
      p.batch = map.n;
      p.height = map.h;
      p.width = map.w;
      p.bytes = m.bytes;
      p.destination_pitch = d;
      p.scale = scale;
      p.crop_bottom = bottom;
      p.crop_right = right;
      p.scale_width = columns;
      const int64_t taps = scale * p.columns();
      check_move(gpu, {m.bytes, 0, m.destination_gap, m.offset}, taps * pixels, taps * pixels, p,
                 &kernels::Backend::depth_to_space, cuda::depth_to_space);
    }
  }
}

template <class T>
void check_gather(TestGpu& gpu, int64_t source_channels, const std::vector<int32_t>& channels,
                  int64_t gap) {
  constexpr int64_t kRows = 23;
  const auto count = static_cast<int64_t>(channels.size());
  CAPTURE(source_channels, count, gap, name_of(type_of<T>()));
  GatherChannels p;
  p.rows = kRows;
  p.count = count;
  p.bytes = static_cast<int64_t>(sizeof(T));
  p.source_pitch = source_channels + gap;
  p.destination_pitch = count + gap;
  const auto x = numbers<T>(kRows * p.source_pitch, 14);
  auto y = numbers<T>(kRows * p.destination_pitch, 15);
  const DeviceArrayOf<T> from(gpu, x), to(gpu, y);
  const DeviceArrayOf<int32_t> list(gpu, channels);
  GatherChannels twin = p;
  twin.source = x.data();
  twin.destination = y.data();
  twin.channels = channels.data();
  host_kernels().gather_channels(twin);
  p.source = from.data();
  p.destination = to.data();
  p.channels = list.data();
  start(gpu, cuda::gather_channels, p);
  compare(to.values(), y, true);
  from.require_unchanged();
  int wrong = 0;
  for (size_t r = 0; r < kRows; ++r)
    for (size_t c = 0; c < channels.size(); ++c)
      wrong += std::memcmp(
                   &y[r * static_cast<size_t>(p.destination_pitch) + c],
                   &x[r * static_cast<size_t>(p.source_pitch) + static_cast<size_t>(channels[c])],
                   sizeof(T)) != 0;
  CHECK(wrong == 0);
}

// --- arithmetic ---------------------------------------------------------------------------------

struct Channels {
  int64_t count, x_gap, y_gap, offset;
};
const Channels kChannels[] = {{1, 0, 0, 0},  {3, 0, 1, 1},    {17, 2, 0, 0},
                              {68, 0, 0, 0}, {16, 16, 48, 0}, {12, 4, 4, 4}};

template <class T>
void check_pool(TestGpu& gpu, const Channels& c) {
  struct Window {
    int64_t kernel, stride, padding;
    bool ceil = false;  // a last window that reaches out of the image counts
  };
  for (const Map& map : kMaps)
    for (const Window& k : {Window{5, 1, 2}, {3, 2, 1}, {1, 1, 0}, {9, 1, 4}, {3, 2, 1, true}}) {
      CAPTURE(c.count, c.x_gap, c.y_gap, c.offset, map.n, map.h, map.w, k.kernel, k.stride,
              name_of(type_of<T>()));
      MaxPoolStrided p;
      p.dtype = type_of<T>();
      p.batch = map.n;
      p.height = map.h;
      p.width = map.w;
      p.channels = c.count;
      p.kernel = k.kernel;
      p.stride = k.stride;
      p.padding = k.padding;
      const auto side = [&](int64_t size) {
        const int64_t whole = (size + 2 * k.padding - k.kernel) / k.stride + 1;
        return whole + (k.ceil && whole * k.stride < size + k.padding);
      };
      p.out_height = side(map.h);
      p.out_width = side(map.w);
      p.source_pitch = c.count + c.x_gap;
      p.destination_pitch = c.count + c.y_gap;
      const auto x = numbers<T>(map.n * map.h * map.w * p.source_pitch, 3);
      auto y = numbers<T>(map.n * p.out_height * p.out_width * p.destination_pitch, 4);
      const DeviceArrayOf<T> from(gpu, x, c.offset), to(gpu, y, c.offset);
      MaxPoolStrided twin = p;
      twin.source = x.data();
      twin.destination = y.data();
      host_kernels().max_pool_strided(twin);
      p.source = from.data();
      p.destination = to.data();
      start(gpu, cuda::max_pool_strided, p);
      compare(to.values(), y, true);
      from.require_unchanged();
    }
}

template <class T>
void check_average_pool(TestGpu& gpu, const Channels& c, bool round) {
  struct Window {
    int64_t height, width, stride, top, left, bottom, right;
  };
  for (const Map& map : kMaps)
    for (const Window& k : {Window{3, 3, 1, 1, 1, 1, 1},
                            {2, 2, 2, 0, 0, 1, 1},
                            {1, 1, 1, 0, 0, 0, 0},
                            {3, 5, 2, 1, 0, 1, 4}}) {
      CAPTURE(c.count, c.x_gap, c.y_gap, c.offset, map.n, map.h, map.w, k.height, k.width, k.stride,
              round, name_of(type_of<T>()));
      AveragePoolStrided p;
      p.dtype = type_of<T>();
      p.batch = map.n;
      p.height = map.h;
      p.width = map.w;
      p.channels = c.count;
      p.kernel_height = k.height;
      p.kernel_width = k.width;
      p.stride = k.stride;
      p.top = k.top;
      p.left = k.left;
      p.out_height = (map.h + k.top + k.bottom - k.height) / k.stride + 1;
      p.out_width = (map.w + k.left + k.right - k.width) / k.stride + 1;
      p.source_pitch = c.count + c.x_gap;
      p.destination_pitch = c.count + c.y_gap;
      p.round = round;
      auto x = numbers<T>(map.n * map.h * map.w * p.source_pitch, 19);
      if constexpr (std::is_same_v<T, float>)
        for (float& v : x) v = round ? std::nearbyint(100 * v) : v;
      auto y = numbers<T>(map.n * p.out_height * p.out_width * p.destination_pitch, 20);
      const DeviceArrayOf<T> from(gpu, x, c.offset), to(gpu, y, c.offset);
      AveragePoolStrided twin = p;
      twin.source = x.data();
      twin.destination = y.data();
      host_kernels().average_pool_strided(twin);
      p.source = from.data();
      p.destination = to.data();
      start(gpu, cuda::average_pool_strided, p);
      compare(to.values(), y, true);
      from.require_unchanged();
    }
}

template <class T>
void check_strided_add(TestGpu& gpu, const Channels& c, float factor, float high) {
  CAPTURE(c.count, c.x_gap, c.y_gap, c.offset, factor, high, name_of(type_of<T>()));
  constexpr int64_t kRows = 37;
  AddStrided p;
  p.dtype = type_of<T>();
  p.rows = kRows;
  p.channels = c.count;
  p.a_pitch = c.count + c.x_gap;
  p.b_pitch = c.count + c.y_gap;
  p.y_pitch = c.count + c.y_gap;
  p.low = -high;
  p.high = high;
  p.factor = factor;
  const auto a = numbers<T>(kRows * p.a_pitch, 5), b = numbers<T>(kRows * p.b_pitch, 6);
  auto y = numbers<T>(kRows * p.y_pitch, 7);
  const DeviceArrayOf<T> da(gpu, a, c.offset), db(gpu, b), dy(gpu, y, c.offset);
  AddStrided twin = p;
  twin.a = a.data();
  twin.b = b.data();
  twin.y = y.data();
  host_kernels().add_strided(twin);
  p.a = da.data();
  p.b = db.data();
  p.y = dy.data();
  start(gpu, cuda::add_strided, p);
  compare(dy.values(), y, true);
  da.require_unchanged();
  db.require_unchanged();
}

template <class A, class B, class Y>
void check_product(TestGpu& gpu, const Channels& c, bool b_per_image, float high) {
  CAPTURE(c.count, c.x_gap, c.y_gap, c.offset, b_per_image, high, name_of(type_of<A>()),
          name_of(type_of<B>()), name_of(type_of<Y>()));
  MultiplyStrided p;
  p.a_type = type_of<A>();
  p.b_type = type_of<B>();
  p.y_type = type_of<Y>();
  p.batch = 3;
  p.pixels = 11;
  p.channels = c.count;
  p.b_per_image = b_per_image;
  p.a_pitch = c.count + c.x_gap;
  p.b_pitch = c.count + c.y_gap;
  p.y_pitch = c.count + c.y_gap;
  p.round = std::is_integral_v<Y> || high > 0;
  p.factor = std::is_integral_v<Y> ? 0.0117f : high > 0 ? 0.37f : 1.0f;
  p.low = std::is_same_v<Y, uint8_t> ? 0.0f : -high;
  p.high = high;
  const int64_t rows = p.batch * p.pixels;
  const auto a = numbers<A>(rows * p.a_pitch, 16),
             b = [&] { return numbers<B>((b_per_image ? p.batch : rows) * p.b_pitch, 17); }();
  auto y = numbers<Y>(rows * p.y_pitch, 18);
  const DeviceArrayOf<A> da(gpu, a, c.offset);
  const DeviceArrayOf<B> db(gpu, b);
  const DeviceArrayOf<Y> dy(gpu, y, c.offset);
  MultiplyStrided twin = p;
  twin.a = a.data();
  twin.b = b.data();
  twin.y = y.data();
  host_kernels().multiply_strided(twin);
  p.a = da.data();
  p.b = db.data();
  p.y = dy.data();
  start(gpu, cuda::multiply_strided, p);
  compare(dy.values(), y, true);
  int wrong = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < c.count; ++i) {
      const int64_t b_row = b_per_image ? r / p.pixels : r;
      double v = double{as_float(a[static_cast<size_t>(r * p.a_pitch + i)])} *
                 double{as_float(b[static_cast<size_t>(b_row * p.b_pitch + i)])} * double{p.factor};
      if (p.round) v = std::min<double>(std::max<double>(v, p.low), p.high);
      const double got = as_float(y[static_cast<size_t>(r * p.y_pitch + i)]);
      wrong += !(std::abs(got - v) <= (p.round ? 0.5001 : 2e-3 * (1 + std::abs(v))));
    }
  CHECK(wrong == 0);
}

template <class From, class To>
void check_map(TestGpu& gpu, const Channels& c, Activation act) {
  CAPTURE(c.count, c.x_gap, c.y_gap, c.offset, name_of(act), name_of(type_of<From>()),
          name_of(type_of<To>()));
  constexpr int64_t kRows = 29;
  ConvertStrided p;
  p.x_type = type_of<From>();
  p.y_type = type_of<To>();
  p.rows = kRows;
  p.channels = c.count;
  p.x_pitch = c.count + c.x_gap;
  p.y_pitch = c.count + c.y_gap;
  p.x_scale = std::is_integral_v<From> ? 0.03125f : 1.0f;
  p.activation = act;
  p.round = std::is_integral_v<To>;
  p.y_scale = 0.0625f;
  p.low = std::is_same_v<To, uint8_t> ? 0.0f : -128.0f;
  p.high = std::is_same_v<To, uint8_t> ? 255.0f : 127.0f;
  auto x = numbers<From>(kRows * p.x_pitch, 8);
  if constexpr (std::is_same_v<From, float>) {
    const float edges[] = {NAN, INFINITY, -INFINITY, 1e30f, 0.03125f, 0.09375f, -0.03125f};
    for (size_t i = 0; i < std::min(x.size(), std::size(edges)); ++i)
      if (act == Activation::kIdentity) x[i] = edges[i];
  }
  auto y = numbers<To>(kRows * p.y_pitch, 9);
  const DeviceArrayOf<From> from(gpu, x, c.offset);
  const DeviceArrayOf<To> to(gpu, y, c.offset);
  ConvertStrided twin = p;
  std::vector<uint8_t> table;
  if (sizeof(From) == 1 && sizeof(To) == 1) {
    const auto bytes = convert_table(p);
    table.assign(bytes.begin(), bytes.end());
  }
  const DeviceArrayOf<uint8_t> table_there(gpu, table);
  if (!table.empty()) twin.table = table.data();
  twin.x = x.data();
  twin.y = y.data();
  host_kernels().convert_strided(twin);
  if (!table.empty()) p.table = table_there.data();
  p.x = from.data();
  p.y = to.data();
  start(gpu, cuda::convert_strided, p);
  compare(to.values(), y,
          !table.empty() || act == Activation::kIdentity || act == Activation::kReLU);
  from.require_unchanged();
  // From the definition, where nothing rounds twice.
  int wrong = 0;
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < c.count; ++i) {
      double v = double{as_float(x[static_cast<size_t>(r * p.x_pitch + i)])} * p.x_scale;
      if (!std::isfinite(v) || (std::is_same_v<To, Half> && std::abs(v) > 65504)) continue;
      if (act == Activation::kReLU) v = std::max(v, 0.0);
      if (act == Activation::kSiLU) v = v / (1 + std::exp(-v));
      const double step = p.round ? double{p.y_scale} : 1.0;
      if (p.round) v = std::min<double>(std::max<double>(v / step, p.low), p.high);
      const double got = as_float(y[static_cast<size_t>(r * p.y_pitch + i)]);
      const double allowed = p.round ? 0.5001 : 2e-3 * (1 + std::abs(v));
      wrong += !(std::abs(got - v) <= allowed);
    }
  CHECK(wrong == 0);
}

template <class X, class Y>
void check_mean(TestGpu& gpu, const Channels& c, int64_t batch, int64_t pixels) {
  CAPTURE(c.count, c.x_gap, c.y_gap, batch, pixels, name_of(type_of<X>()), name_of(type_of<Y>()));
  GlobalAverageStrided p;
  p.x_type = type_of<X>();
  p.y_type = type_of<Y>();
  p.batch = batch;
  p.pixels = pixels;
  p.channels = c.count;
  p.x_pitch = c.count + c.x_gap;
  p.y_pitch = c.count + c.y_gap;
  double factor = 1;
  if (std::is_integral_v<X>) {
    factor = 1.7;  // some saturate
    p.factor = static_cast<float>(factor / static_cast<double>(pixels));
    p.round = true;
    p.low = std::is_same_v<Y, uint8_t> ? 0.0f : -128.0f;
    p.high = std::is_same_v<Y, uint8_t> ? 255.0f : 127.0f;
  }
  const auto x = numbers<X>(batch * pixels * p.x_pitch, 10);
  auto y = numbers<Y>(batch * p.y_pitch, 11);
  const DeviceArrayOf<X> from(gpu, x, c.offset);
  const DeviceArrayOf<Y> to(gpu, y);
  GlobalAverageStrided twin = p;
  twin.x = x.data();
  twin.y = y.data();
  host_kernels().global_average_strided(twin);
  p.x = from.data();
  p.y = to.data();
  start(gpu, cuda::global_average_strided, p);
  compare(to.values(), y, std::is_integral_v<X>);
  int wrong = 0;
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t i = 0; i < c.count; ++i) {
      double mean = 0;
      for (int64_t k = 0; k < pixels; ++k)
        mean += as_float(x[static_cast<size_t>((n * pixels + k) * p.x_pitch + i)]);
      mean *= factor / static_cast<double>(pixels);
      if (p.round) mean = std::min<double>(std::max<double>(mean, p.low), p.high);
      const double got = as_float(y[static_cast<size_t>(n * p.y_pitch + i)]);
      wrong += !(std::abs(got - mean) <= (p.round ? 0.5001 : sizeof(X) == 2 ? 2e-3 : 1e-6));
    }
  CHECK(wrong == 0);
}

template <class T>
void check_softmax(TestGpu& gpu, const Channels& c, int64_t rows) {
  CAPTURE(c.count, c.x_gap, c.y_gap, rows, name_of(type_of<T>()));
  SoftmaxStrided p;
  p.dtype = type_of<T>();
  p.rows = rows;
  p.channels = c.count;
  p.x_pitch = c.count + c.x_gap;
  p.y_pitch = c.count + c.y_gap;
  const auto x = numbers<T>(rows * p.x_pitch, 12);
  auto y = numbers<T>(rows * p.y_pitch, 13);
  const DeviceArrayOf<T> from(gpu, x, c.offset), to(gpu, y);
  SoftmaxStrided twin = p;
  twin.x = x.data();
  twin.y = y.data();
  host_kernels().softmax_strided(twin);
  p.x = from.data();
  p.y = to.data();
  start(gpu, cuda::softmax_strided, p);
  compare(to.values(), y, false);
  int wrong = 0;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    const auto e = [&](int64_t i) {
      return std::exp(double{as_float(x[static_cast<size_t>(r * p.x_pitch + i)])});
    };
    for (int64_t i = 0; i < c.count; ++i) sum += e(i);
    for (int64_t i = 0; i < c.count; ++i) {
      const double got = as_float(y[static_cast<size_t>(r * p.y_pitch + i)]);
      wrong += !(std::abs(got - e(i) / sum) <= (sizeof(T) == 2 ? 1e-3 : 1e-6));
    }
  }
  CHECK(wrong == 0);
}

template <class F>
void each_strided_type(const F& f) {
  f(float{});
  f(Half{});
  f(uint8_t{});
  f(int8_t{});
}

}  // namespace

// Of tensors with a pitch, in every type: moved, pooled, added, converted, averaged.
KERNEL_CASE("row kernels: copies, scatter, upsampling") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Move& m : kMoves) check_moves(gpu, m);
  }
}

KERNEL_CASE("row kernels: pooling") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Channels& c : kChannels)
      each_strided_type([&](auto t) { check_pool<decltype(t)>(gpu, c); });
  }
}

KERNEL_CASE("row kernels: average pooling") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Channels& c : kChannels) {
      each_strided_type([&](auto t) { check_average_pool<decltype(t)>(gpu, c, false); });
      check_average_pool<float>(gpu, c, true);
    }
  }
  AveragePoolStrided outside;
  outside.batch = outside.height = outside.width = outside.channels = 1;
  outside.out_height = outside.out_width = 2;
  CHECK(error_of([&] { start(gpu, cuda::average_pool_strided, outside); }) ==
        "average_pool_strided: 2 x 2 windows of 1 x 1 with stride 1 from 0, 0 on 1 x 1");
}

KERNEL_CASE("row kernels: addition, activations, conversions") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Channels& c : kChannels) {
      each_strided_type([&](auto t) {
        check_strided_add<decltype(t)>(gpu, c, 1.0f, 0);
        check_strided_add<decltype(t)>(gpu, c, 0.37f, 0);
      });
      check_strided_add<float>(gpu, c, 1.0f, 3);  // integers held as floats
      for (const Activation act : {Activation::kIdentity, Activation::kReLU, Activation::kSiLU})
        each_strided_type([&](auto from) {
          each_strided_type([&](auto to) { check_map<decltype(from), decltype(to)>(gpu, c, act); });
        });
    }
    CHECK(error_of([&] {
            ConvertStrided p;
            p.x_type = DType::kI32;
            start(gpu, cuda::convert_strided, p);
          }) == "convert_strided: a tensor of I32, must be F32, F16, U8 or I8");
    CHECK(error_of([&] {
            ConvertStrided p;
            p.x_type = p.y_type = DType::kU8;
            start(gpu, cuda::convert_strided, p);
          }) == "convert_strided: U8 to U8 without a table");
  }
}

KERNEL_CASE("row kernels: products") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Channels& c : kChannels)
      for (const bool per_image : {false, true}) {
        check_product<float, float, float>(gpu, c, per_image, 0);
        check_product<float, float, float>(gpu, c, per_image, 3);  // integers held as floats
        check_product<Half, Half, Half>(gpu, c, per_image, 0);
        check_product<uint8_t, uint8_t, uint8_t>(gpu, c, per_image, 255);
        check_product<int8_t, uint8_t, int8_t>(gpu, c, per_image, 127);
        check_product<uint8_t, int8_t, int8_t>(gpu, c, per_image, 127);
      }
    CHECK(error_of([&] {
            MultiplyStrided p;
            p.b_type = DType::kU8;
            start(gpu, cuda::multiply_strided, p);
          }) == "multiply_strided: F32 times U8 to F32, must be bytes, or F32, F16 or BF16");
  }
}

KERNEL_CASE("row kernels: channels by their numbers") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t gap : {0, 3})
      each_strided_type([&](auto t) {
        check_gather<decltype(t)>(gpu, 6, {0, 3, 1, 4, 2, 5}, gap);
        check_gather<decltype(t)>(gpu, 5, {4, 4, 0}, gap);
        check_gather<decltype(t)>(gpu, 1, {0}, gap);
      });
  }
}

KERNEL_CASE("row kernels: means and softmax") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Channels& c : kChannels) {
      for (const int64_t batch : {1, 3})
        for (const int64_t pixels : {1, 7, 90}) {
          check_mean<float, float>(gpu, c, batch, pixels);
          check_mean<Half, Half>(gpu, c, batch, pixels);
          check_mean<uint8_t, uint8_t>(gpu, c, batch, pixels);
          check_mean<int8_t, uint8_t>(gpu, c, batch, pixels);
          check_mean<int8_t, int8_t>(gpu, c, batch, pixels);
        }
      for (const int64_t rows : {1, 9}) {
        check_softmax<float>(gpu, c, rows);
        check_softmax<Half>(gpu, c, rows);
      }
    }
  }
}

}  // namespace sextant::test
