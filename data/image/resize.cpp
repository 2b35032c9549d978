// SPDX-License-Identifier: Apache-2.0
#include "data/image/resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/math/image.h"

namespace sextant::data {
namespace {

void check_sizes(const Image& image, int width, int height) {
  check(!image.empty(), "resize: the image is empty");
  check(width > 0 && height > 0, "resize: size {}x{} is not positive", width, height);
}

// Scale from result to source, rounded as OpenCV computes it.
double step_of(int source, int result) { return 1.0 / (static_cast<double>(result) / source); }

// For each result position along one axis: two source positions and their coefficients.
struct Taps {
  std::vector<int> first, second;
  std::vector<int> weight_first, weight_second;
};

Taps linear_taps(int source, int result, bool area_flavour, bool along_x) {
  const int channels = along_x ? 3 : 1;
  Taps taps;
  for (int d = 0; d < result; ++d) {
    const auto t = kernels::image::linear_tap(d, source, result, area_flavour, along_x);
    taps.first.push_back(t.first * channels);
    taps.second.push_back(t.second * channels);
    taps.weight_first.push_back(t.weight_first);
    taps.weight_second.push_back(t.weight_second);
  }
  return taps;
}

void resize_linear(const Image& image, int width, int height, bool area_flavour, uint8_t* out,
                   int64_t pitch) {
  const Taps x = linear_taps(image.width, width, area_flavour, true);
  const Taps y = linear_taps(image.height, height, area_flavour, false);
  const int64_t n = int64_t{3} * width;
  // The last two source rows, resized along x. Only neighbouring results use a row.
  std::array<std::vector<int>, 2> rows{std::vector<int>(static_cast<size_t>(n)),
                                       std::vector<int>(static_cast<size_t>(n))};
  std::array<int, 2> held{-1, -1};
  auto row_of = [&](int source_y, int keep) -> int {
    for (int k = 0; k < 2; ++k)
      if (held[k] == source_y) return k;
    const int k = held[0] == keep ? 1 : 0;
    held[k] = source_y;
    const uint8_t* s = image.row(source_y);
    int* r = rows[k].data();
    for (int d = 0; d < width; ++d) {
      const uint8_t* a = s + x.first[d];
      const uint8_t* b = s + x.second[d];
      for (int c = 0; c < 3; ++c)
        r[3 * d + c] = a[c] * x.weight_first[d] + b[c] * x.weight_second[d];
    }
    return k;
  };
  for (int d = 0; d < height; ++d) {
    const int* a = rows[row_of(y.first[d], y.second[d])].data();
    const int* b = rows[row_of(y.second[d], y.first[d])].data();
    const int wa = y.weight_first[d];
    const int wb = y.weight_second[d];
    uint8_t* o = out + d * pitch;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) o[i] = kernels::image::blended_rows(a[i], wa, b[i], wb);
  }
}

void halve(const Image& image, uint8_t* out, int64_t pitch) {
  const int width = image.width / 2;
  for (int d = 0; d < image.height / 2; ++d) {
    const uint8_t* a = image.row(2 * d);
    const uint8_t* b = image.row(2 * d + 1);
    uint8_t* o = out + d * pitch;
    for (int i = 0; i < width; ++i)
      for (int c = 0; c < 3; ++c)
        o[3 * i + c] = static_cast<uint8_t>(
            (a[6 * i + c] + a[6 * i + 3 + c] + b[6 * i + c] + b[6 * i + 3 + c] + 2) >> 2);
  }
}

// The contribution of each source position to each result position.
struct Part {
  int source, result;
  float weight;
};

std::vector<Part> area_parts(int source, int result) {
  const double step = step_of(source, result);
  std::vector<Part> parts;
  for (int d = 0; d < result; ++d) {
    const double begin = d * step;
    const double end = begin + step;
    const double cell = std::min(step, source - begin);
    int first = static_cast<int>(std::ceil(begin));
    const int last = std::min(static_cast<int>(std::floor(end)), source - 1);
    first = std::min(first, last);
    if (first - begin > 1e-3)
      parts.push_back({first - 1, d, static_cast<float>((first - begin) / cell)});
    for (int s = first; s < last; ++s) parts.push_back({s, d, static_cast<float>(1.0 / cell)});
    if (end - last > 1e-3)
      parts.push_back(
          {last, d, static_cast<float>(std::min(std::min(end - last, 1.0), cell) / cell)});
  }
  return parts;
}

uint8_t to_byte(float v) { return static_cast<uint8_t>(std::clamp(std::lrint(v), 0L, 255L)); }

Image shrink_by_whole(const Image& image, int width, int height) {
  const int nx = image.width / width;
  const int ny = image.height / height;
  const float scale = 1.0f / static_cast<float>(nx * ny);
  Image out = make_image(width, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        for (int j = 0; j < ny; ++j)
          for (int i = 0; i < nx; ++i) sum += image.row(y * ny + j)[3 * (x * nx + i) + c];
        out.row(y)[3 * x + c] = to_byte(static_cast<float>(sum) * scale);
      }
  return out;
}

}  // namespace

void resize_bilinear_into(const Image& image, int width, int height, uint8_t* out, int64_t pitch) {
  check_sizes(image, width, height);
  if (width == image.width && height == image.height) {
    for (int y = 0; y < height; ++y)
      std::memcpy(out + y * pitch, image.row(y), static_cast<size_t>(image.pitch()));
  } else if (int64_t{2} * width == image.width && int64_t{2} * height == image.height) {
    halve(image, out, pitch);
  } else {
    resize_linear(image, width, height, false, out, pitch);
  }
}

Image resize_bilinear(const Image& image, int width, int height) {
  Image out = make_image(width, height);
  resize_bilinear_into(image, width, height, out.pixels.data(), out.pitch());
  return out;
}

Image resize_area(const Image& image, int width, int height) {
  check_sizes(image, width, height);
  Image out = make_image(width, height);
  if (width == image.width && height == image.height) return image;
  if (width > image.width || height > image.height) {
    resize_linear(image, width, height, true, out.pixels.data(), out.pitch());
    return out;
  }
  if (image.width % width == 0 && image.height % height == 0) {
    if (image.width / width == 2 && image.height / height == 2) {
      halve(image, out.pixels.data(), out.pitch());
      return out;
    }
    return shrink_by_whole(image, width, height);
  }
  const std::vector<Part> xs = area_parts(image.width, width);
  const std::vector<Part> ys = area_parts(image.height, height);
  const size_t n = static_cast<size_t>(out.pitch());
  std::vector<float> row(n);
  std::vector<float> sum(n);
  for (size_t k = 0; k < ys.size(); ++k) {
    const uint8_t* s = image.row(ys[k].source);
    std::ranges::fill(row, 0.0f);
    for (const Part& p : xs)
      for (int c = 0; c < 3; ++c)
        row[static_cast<size_t>(3 * p.result + c)] +=
            static_cast<float>(s[3 * p.source + c]) * p.weight;
    if (k == 0 || ys[k].result != ys[k - 1].result) std::ranges::fill(sum, 0.0f);
    for (size_t i = 0; i < n; ++i) sum[i] += ys[k].weight * row[i];
    if (k + 1 == ys.size() || ys[k + 1].result != ys[k].result) {
      uint8_t* o = out.row(ys[k].result);
      for (size_t i = 0; i < n; ++i) o[i] = to_byte(sum[i]);
    }
  }
  return out;
}

Tensor resize_batch(const Tensor& images, int height, int width) {
  check(images.shape().rank() == 4 && images.dtype() == DType::kU8 && images.dim(3) == 3,
        "resize: batch {} is not U8 [N,H,W,3]", images.shape().str());
  Tensor out(Shape{images.dim(0), height, width, 3}, DType::kU8);
  const int64_t pitch = int64_t{3} * width, bytes = images.numel() / images.dim(0);
  parallel_for(images.dim(0), 1, [&](int64_t begin, int64_t end) {
    Image image;
    image.width = static_cast<int>(images.dim(2));
    image.height = static_cast<int>(images.dim(1));
    for (int64_t n = begin; n < end; ++n) {
      const uint8_t* from = images.data<uint8_t>() + n * bytes;
      image.pixels.assign(from, from + bytes);
      resize_bilinear_into(image, width, height, out.data<uint8_t>() + n * height * pitch, pitch);
    }
  });
  return out;
}

}  // namespace sextant::data
