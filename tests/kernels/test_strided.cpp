// SPDX-License-Identifier: Apache-2.0
// Kernels on rows against plain loops, with pitches on both sides.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;

namespace {

template <class T>
std::vector<T> random_values(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(rng.uniform(std::is_signed_v<T> ? -128 : 0, 127));
  return v;
}

struct PoolCase {
  int64_t kernel, stride, padding;
};

template <class T>
void check_max_pool(const PoolCase& k) {
  const int64_t n = 2, h = 9, w = 11, c = 5, x_pitch = 7, y_pitch = 8;
  const int64_t oh = (h + 2 * k.padding - k.kernel) / k.stride + 1;
  const int64_t ow = (w + 2 * k.padding - k.kernel) / k.stride + 1;
  const auto x = random_values<T>(n * h * w * x_pitch, 1);
  const auto untouched = random_values<T>(n * oh * ow * y_pitch, 2);
  auto y = untouched;
  backend(Device::kCpu)
      .max_pool_strided({x.data(), y.data(), DTypeOf<T>::value, n, h, w, c, oh, ow, k.kernel,
                         k.stride, k.padding, x_pitch, y_pitch});
  auto expected = untouched;  // what lies between the channels stays
  for (int64_t i = 0; i < n * oh * ow; ++i)
    for (int64_t ch = 0; ch < c; ++ch) {
      T best = std::numeric_limits<T>::lowest();
      for (int64_t t = 0; t < k.kernel * k.kernel; ++t) {
        const int64_t ih = i / ow % oh * k.stride - k.padding + t / k.kernel;
        const int64_t iw = i % ow * k.stride - k.padding + t % k.kernel;
        if (ih < 0 || iw < 0 || ih >= h || iw >= w) continue;
        const int64_t pixel = (i / (oh * ow) * h + ih) * w + iw;
        best = std::max(best, x[static_cast<size_t>(pixel * x_pitch + ch)]);
      }
      expected[static_cast<size_t>(i * y_pitch + ch)] = best;
    }
  CHECK(y == expected);
}

template <class T>
void check_add() {
  const int64_t rows = 13, c = 6;
  const auto a = random_values<T>(rows * 9, 3);
  const auto b = random_values<T>(rows * 7, 4);
  std::vector<T> y(static_cast<size_t>(rows * 8), T{});
  backend(Device::kCpu)
      .add_strided({a.data(), b.data(), y.data(), DTypeOf<T>::value, rows, c, 9, 7, 8});
  int saturated = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < c; ++i) {
      double v = static_cast<double>(a[static_cast<size_t>(r * 9 + i)]) +
                 static_cast<double>(b[static_cast<size_t>(r * 7 + i)]);
      if (sizeof(T) == 1) {
        const double low = std::numeric_limits<T>::lowest();
        const double high = std::numeric_limits<T>::max();
        saturated += v < low || v > high;
        v = std::clamp(v, low, high);
      }
      CHECK(y[static_cast<size_t>(r * 8 + i)] == static_cast<T>(v));
    }
  if (std::is_same_v<T, int8_t>) CHECK(saturated > 0);
}

}  // namespace

TEST_CASE("max-pool: any kernel, stride and padding, f32, u8 and s8") {
  const PoolCase k = GENERATE(PoolCase{5, 1, 2}, PoolCase{3, 2, 1}, PoolCase{2, 2, 0},
                              PoolCase{1, 1, 0}, PoolCase{9, 1, 4});
  CAPTURE(k.kernel, k.stride);
  check_max_pool<float>(k);
  check_max_pool<uint8_t>(k);
  check_max_pool<int8_t>(k);
}

TEST_CASE("add saturates integers and clamps simulated ones") {
  check_add<float>();
  check_add<uint8_t>();
  check_add<int8_t>();
  const std::vector<float> a{200, -200, 3}, b{100, -1, 4};
  std::vector<float> y(3);
  backend(Device::kCpu)
      .add_strided({a.data(), b.data(), y.data(), DType::kF32, 1, 3, 3, 3, 3, -128, 127});
  CHECK(y == std::vector<float>{127, -128, 7});
}

TEST_CASE("scatter puts the four taps of a transposed convolution in their places") {
  const int64_t n = 2, h = 3, w = 4, c = 5;
  const int64_t pitch = GENERATE(5, 9);
  const auto x = random_values<uint8_t>(n * h * w * 4 * c, 5);
  std::vector<uint8_t> y(static_cast<size_t>(n * 4 * h * w * pitch), 255);
  backend(Device::kCpu).depth_to_space({x.data(), y.data(), n, h, w, c, pitch});
  for (int64_t p = 0; p < n * 2 * h * 2 * w; ++p) {
    const int64_t ow = p % (2 * w), row = p / (2 * w);  // row: n * 2h
    const int64_t tap = row % 2 * 2 + ow % 2;
    for (int64_t i = 0; i < pitch; ++i) {
      const auto from = static_cast<size_t>((((row / 2) * w + ow / 2) * 4 + tap) * c + i);
      CHECK(y[static_cast<size_t>(p * pitch + i)] == (i < c ? x[from] : 255));
    }
  }
}

TEST_CASE("scatter of any scale leaves out what is cropped") {
  const int64_t t = GENERATE(3, 2, 1);  // columns
  const int64_t n = 2, h = 2, w = 3, c = 4, s = 3, cut = std::min<int64_t>(t - 1, 1);
  const int64_t oh = s * h - 2, ow = t * w - cut;
  const auto x = random_values<uint8_t>(n * h * w * s * t * c, 7);
  std::vector<uint8_t> y(static_cast<size_t>(n * oh * ow * c));
  backend(Device::kCpu)
      .depth_to_space({x.data(), y.data(), n, h, w, c, c, s, 2, cut, t == s ? 0 : t});
  int wrong = 0;
  for (int64_t i = 0; i < std::ssize(y); ++i) {
    const int64_t k = i % c, px = i / c % ow, py = i / c / ow % oh, image = i / c / ow / oh;
    const int64_t pixel = (image * h + py / s) * w + px / t, tap = py % s * t + px % t;
    wrong += y[static_cast<size_t>(i)] != x[static_cast<size_t>((pixel * s * t + tap) * c + k)];
  }
  CHECK(wrong == 0);
}

TEST_CASE("quotients are rounded half to even") {
  for (int n = 1; n <= 12; ++n)
    for (int s = -60; s <= 60; ++s)
      CHECK(rounded_quotient(s, n) == std::nearbyint(static_cast<double>(s) / n));
}

TEST_CASE("the mean of a window does not count what lies outside the image") {
  AveragePoolStrided p{.batch = 1, .height = 2, .width = 3, .channels = 1};
  p.kernel_height = p.kernel_width = 3;
  p.top = p.left = 1;
  p.out_height = 2;
  p.out_width = 3;
  p.source_pitch = p.destination_pitch = 1;
  const std::vector<float> x{1, 2, 4, 8, 16, 33};
  const std::vector<float> exact{27 / 4.0f, 64 / 6.0f, 55 / 4.0f};
  std::vector<float> y(6);
  p.source = x.data();
  p.destination = y.data();
  backend(Device::kCpu).average_pool_strided(p);
  for (size_t i = 0; i < 6; ++i) CHECK(y[i] == exact[i % 3]);
  p.round = true;  // a simulation
  backend(Device::kCpu).average_pool_strided(p);
  CHECK(y == std::vector<float>{7, 11, 14, 7, 11, 14});
  const std::vector<int8_t> bytes{-1, -2, -4, -8, -16, -33};
  std::vector<int8_t> z(6);
  p.dtype = DType::kI8;
  p.source = bytes.data();
  p.destination = z.data();
  backend(Device::kCpu).average_pool_strided(p);
  CHECK(z == std::vector<int8_t>{-7, -11, -14, -7, -11, -14});
  p.kernel_width = 1;  // the first window would begin left of the image
  CHECK(test::error_of([&] { backend(Device::kCpu).average_pool_strided(p); }) ==
        "average_pool_strided: 2 x 3 windows of 3 x 1 with stride 1 from -1, -1 on 2 x 3");
}

TEST_CASE("upsample repeats pixels, copy moves rows") {
  const int64_t n = 2, h = 2, w = 3, c = 4;
  const auto x = random_values<uint8_t>(n * h * w * 6, 6);
  std::vector<uint8_t> y(static_cast<size_t>(n * 9 * h * w * 5), 7);
  backend(Device::kCpu).upsample_strided({x.data(), y.data(), n, h, w, 3, c, 6, 5});
  for (int64_t p = 0; p < n * 3 * h * 3 * w; ++p) {
    const int64_t from = p / (3 * w) / 3 * w + p % (3 * w) / 3;
    for (int64_t i = 0; i < 5; ++i)
      CHECK(y[static_cast<size_t>(p * 5 + i)] ==
            (i < c ? x[static_cast<size_t>(from * 6 + i)] : 7));
  }
  backend(Device::kCpu).copy_strided({x.data(), y.data(), n * h * w, c, 6, 5});
  for (int64_t r = 0; r < n * h * w; ++r)
    CHECK(std::equal(y.begin() + r * 5, y.begin() + r * 5 + c, x.begin() + r * 6));
}

namespace {

template <class T>
void check_shuffle(int64_t channels) {
  const int64_t rows = 7, x_pitch = channels + 1, y_pitch = channels + 3;
  std::vector<T> x(static_cast<size_t>(rows * x_pitch)), y(static_cast<size_t>(rows * y_pitch), 9);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i);
  std::vector<int32_t> from;
  for (int64_t c = 0; c < channels; ++c)
    from.push_back(static_cast<int32_t>(c % 2 * (channels / 2) + c / 2));
  backend(Device::kCpu)
      .gather_channels(
          {x.data(), y.data(), from.data(), rows, channels, sizeof(T), x_pitch, y_pitch});
  int wrong = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < y_pitch; ++c)
      wrong +=
          y[static_cast<size_t>(r * y_pitch + c)] !=
          (c < channels ? x[static_cast<size_t>(r * x_pitch + from[static_cast<size_t>(c)])] : 9);
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("channels of two groups are shuffled") {
  for (const int64_t channels : {2, 4, 30, 48, 88, 94}) {
    CAPTURE(channels);
    check_shuffle<uint8_t>(channels);
    check_shuffle<uint16_t>(channels);
    check_shuffle<uint32_t>(channels);
  }
}

TEST_CASE("bytes are multiplied by the factors of their image") {
  const int64_t images = 2, pixels = 301;
  for (const int64_t c : {1, 8, 48, 700})
    for (const int64_t gap : {0, 3}) {
      CAPTURE(c, gap);
      const int64_t pitch = c + gap;
      const auto a = random_values<int8_t>(images * pixels * pitch, 8);
      const auto b = random_values<uint8_t>(images * c, 9);
      std::vector<int8_t> y(static_cast<size_t>(images * pixels * pitch), 77);
      MultiplyStrided p{.a = a.data(),
                        .b = b.data(),
                        .y = y.data(),
                        .a_type = DType::kI8,
                        .b_type = DType::kU8,
                        .y_type = DType::kI8,
                        .batch = images,
                        .pixels = pixels,
                        .channels = c,
                        .b_per_image = true,
                        .a_pitch = pitch,
                        .b_pitch = c,
                        .y_pitch = pitch,
                        .factor = 0.017f,
                        .round = true,
                        .low = -128,
                        .high = 127};
      backend(Device::kCpu).multiply_strided(p);
      int wrong = 0;
      for (int64_t i = 0; i < std::ssize(y); ++i) {
        const int64_t row = i / pitch, k = i % pitch;
        float v = 77;
        if (k < c) {
          v = static_cast<float>(a[static_cast<size_t>(i)]) *
              static_cast<float>(b[static_cast<size_t>(row / pixels * c + k)]) * 0.017f;
          v = std::clamp(std::nearbyint(v), -128.0f, 127.0f);
        }
        wrong += static_cast<float>(y[static_cast<size_t>(i)]) != v;
      }
      CHECK(wrong == 0);
    }
}
