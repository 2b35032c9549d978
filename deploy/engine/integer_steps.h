// SPDX-License-Identifier: Apache-2.0
// The steps of the fully integer mode. They are made of integers (integer_conv.h,
// integer_rescale.h, integer_decode.h), so that between the pixels and the decoded result there is
// nothing to compute in float.
#pragma once

#include <memory>
#include <vector>

#include "deploy/engine/step.h"
#include "deploy/graph/graph.h"
#include "deploy/integer/conv.h"
#include "deploy/integer/rescale.h"

namespace sextant::deploy {

// source: u8 or s8, dense; sums: i32, dense. By make_exact_sums_step() where zero points are 0,
// else, or when `plain`, by integer_conv().
std::unique_ptr<Step> make_sums_step(const IntegerConv& conv, const Place& source,
                                     const Place& sums, bool plain);

// sums: dense. residual (null: none) and destination: u8, s8 or i32, of one type, may have a pitch.
std::unique_ptr<Step> make_rescale_step(const Rescale& rescale, const Place& sums,
                                        const Place* residual, const Place& destination,
                                        int64_t rows);

// y = a + factor * b in one scale, u8 or s8.
std::unique_ptr<Step> make_integer_add_step(const Place& a, const Place& b, const Place& y,
                                            int64_t rows, float factor);

// y = a * b * factor, u8 or s8 each; b has as many rows as y, or, `b_per_image`, one for the rows of
// each of `batch` images.
std::unique_ptr<Step> make_integer_multiply_step(const Place& a, const Place& b, const Place& y,
                                                 int64_t batch, int64_t pixels, bool b_per_image,
                                                 double factor);

// Mean over the pixels of each image, times `factor`; u8 or s8 each. `shape` of the source.
std::unique_ptr<Step> make_integer_average_step(const Place& source, const Place& destination,
                                                const Shape& shape, double factor);

// u8 or s8 of this scale -> i32 in head steps (2^-kHeadBits), through a table.
std::unique_ptr<Step> make_widen_step(const Place& source, double scale, const Place& destination,
                                      int64_t rows);

// Dense i32 sources, two per level; the destination is dense i32 [N, A, 5 + classes].
std::unique_ptr<Step> make_integer_decode_step(const std::vector<Place>& sources,
                                               const std::vector<Shape>& shapes,
                                               const Place& destination,
                                               const DecodeAttributes& attributes);

}  // namespace sextant::deploy
