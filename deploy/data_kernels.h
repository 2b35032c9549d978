// What an engine does between convolutions: moving, pooling, adding. Rows are pixels; pitches let a
// producer write straight into a slice of a concat's buffer. All parallel over rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sextant::deploy {

// `rows` runs of `bytes`; pitches in bytes.
struct RowCopy {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  int64_t rows = 0;
  int64_t bytes = 0;
  int64_t source_pitch = 0;
  int64_t destination_pitch = 0;
};
void copy_rows(const RowCopy& p);

// Result of a transposed convolution computed as a pointwise one: source [N,H,W,2,2,C] dense ->
// destination pixel (2h + i, 2w + j). `bytes` is C * element size.
struct Scatter {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0;  // of the source
  int64_t bytes = 0;
  int64_t destination_pitch = 0;  // bytes
};
void scatter_2x2(const Scatter& p);

// Nearest-neighbour upsampling by a whole factor.
struct Upsample {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0;  // of the source
  int64_t scale = 2;
  int64_t bytes = 0;
  int64_t source_pitch = 0, destination_pitch = 0;  // bytes
};
void upsample(const Upsample& p);

// Max over kernel x kernel windows; outside the image does not count. Vertical maximum into a line
// of its own, then horizontal: 2 * kernel comparisons a value instead of kernel^2.
template <class T>
struct MaxPool {
  const T* source = nullptr;
  T* destination = nullptr;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t out_height = 0, out_width = 0;
  int64_t kernel = 1, stride = 1, padding = 0;
  int64_t source_pitch = 0, destination_pitch = 0;  // elements
};
template <class T>
void max_pool(const MaxPool<T>& p);  // float, uint8_t, int8_t

// y = saturate(round_half_even(a + factor * b)), one scale for all three; f32 with `low` < `high`
// is rounded and clamped to them (a simulation), else plain.
template <class T>
struct AddRows {
  const T* a = nullptr;
  const T* b = nullptr;
  T* y = nullptr;
  int64_t rows = 0, channels = 0;
  int64_t a_pitch = 0, b_pitch = 0, y_pitch = 0;  // elements
  float low = 0, high = 0;
  float factor = 1.0f;
};
template <class T>
void add_rows(const AddRows<T>& p);  // float, uint8_t, int8_t

}  // namespace sextant::deploy
