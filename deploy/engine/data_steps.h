// SPDX-License-Identifier: Apache-2.0
// The steps that are not convolutions, through the kernels of the device `on`. All places may have
// a pitch unless said otherwise; floats are F32, or F16 on CUDA.
#pragma once

#include <memory>
#include <vector>

#include "deploy/engine/step.h"
#include "deploy/graph/graph.h"
#include "kernels/backend.h"

namespace sextant::deploy {

using kernels::Backend;

// u8 pixels -> floats, both dense: pixel / 255, or the pixel itself in a simulation. n values.
std::unique_ptr<Step> make_input_step(const Backend& on, const Place& pixels, const Place& image,
                                      int64_t n, bool simulate);

// `rows` pixels from one place to another of as many channels and the same type.
std::unique_ptr<Step> make_copy_step(const Backend& on, const Place& source,
                                     const Place& destination, int64_t rows);

// Dense source [N,H,W,scale,scale,C]; shape is [N,H,W,*].
std::unique_ptr<Step> make_scatter_step(const Backend& on, const Place& source,
                                        const Place& destination, const Shape& shape,
                                        const DepthToSpaceAttributes& attributes = {});

std::unique_ptr<Step> make_upsample_step(const Backend& on, const Place& source,
                                         const Place& destination, const Shape& shape,
                                         int64_t scale);

// `shape` of the source, `out` of the destination.
std::unique_ptr<Step> make_max_pool_step(const Backend& on, const Place& source,
                                         const Place& destination, const Shape& shape,
                                         const Shape& out, const MaxPoolAttributes& attributes);

// `shape` of the source, `out` of the destination; one scale for both. `simulate`: F32 that holds
// integers.
std::unique_ptr<Step> make_average_pool_step(const Backend& on, const Place& source,
                                             const Place& destination, const Shape& shape,
                                             const Shape& out,
                                             const AveragePoolAttributes& attributes,
                                             bool simulate);

// Softmax over the channels of each row. Floats.
std::unique_ptr<Step> make_softmax_step(const Backend& on, const Place& source,
                                        const Place& destination, int64_t rows);

// What the integers of a place mean.
struct Meaning {
  bool quantized = false;
  bool is_unsigned = false;
  float scale = 1.0f;
  float low() const { return is_unsigned ? 0.0f : -128.0f; }
  float high() const { return is_unsigned ? 255.0f : 127.0f; }
};

// Mean over the pixels of each image; `shape` of the source. Both integers, or both floats.
std::unique_ptr<Step> make_global_avg_pool_step(const Backend& on, const Place& source,
                                                const Meaning& from, const Place& destination,
                                                const Meaning& to, const Shape& shape);

// a + factor * b in one scale.
std::unique_ptr<Step> make_add_step(const Backend& on, const Place& a, const Place& b,
                                    const Place& y, int64_t rows, const Meaning& meaning,
                                    float factor);

// y = a * b; b has as many rows as y, or, `b_per_image`, one for the rows of each of `batch` images.
// All integers, or all floats of one type.
std::unique_ptr<Step> make_multiply_step(const Backend& on, const Place& a, const Meaning& a_means,
                                         const Place& b, const Meaning& b_means, const Place& y,
                                         const Meaning& y_means, int64_t batch, int64_t pixels,
                                         bool b_per_image);

// Channel c of the destination is channel channels[c] of the source; of one type.
std::unique_ptr<Step> make_gather_step(const Backend& on, const Place& source,
                                       const Place& destination, int64_t rows,
                                       const std::vector<int64_t>& channels);

// y = quantize(act(dequantize(x))): an activation on its own, and with identity every conversion
// between floats and integers. From integers to integers through a table.
std::unique_ptr<Step> make_map_step(const Backend& on, const Place& source, const Meaning& from,
                                    const Place& destination, const Meaning& to, int64_t rows,
                                    Activation activation);

// Sources of floats, DecodeAttributes::maps_per_level() a level; the destination is dense f32
// [N, A, 5 + classes].
std::unique_ptr<Step> make_decode_step(const Backend& on, const std::vector<Place>& sources,
                                       const std::vector<Shape>& shapes, const Place& destination,
                                       const DecodeAttributes& attributes);

}  // namespace sextant::deploy
