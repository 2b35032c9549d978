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

// u8 or s8 of this scale -> i32 in head steps (2^-kHeadBits), through a table.
std::unique_ptr<Step> make_widen_step(const Place& source, double scale, const Place& destination,
                                      int64_t rows);

// Dense i32 sources, two per level; the destination is dense i32 [N, A, 5 + classes].
std::unique_ptr<Step> make_integer_decode_step(const std::vector<Place>& sources,
                                               const std::vector<Shape>& shapes,
                                               const Place& destination,
                                               const DecodeAttributes& attributes);

}  // namespace sextant::deploy
