// SPDX-License-Identifier: Apache-2.0
// One run of a graph by an engine made for it.
#pragma once

#include "deploy/engine/engine.h"
#include "deploy/networks.h"

namespace sextant::test {

inline Tensor run_engine(const deploy::Graph& g, const Tensor& images,
                         deploy::Precision precision = deploy::Precision::kFloat32) {
  return deploy::Engine(g, {images.dim(0), images.dim(1), images.dim(2), precision}).run(images);
}

// On a random image of 32 x 32.
inline Tensor run_on_noise(const deploy::Graph& g, deploy::Precision precision) {
  return run_engine(g, random_images({1, 32, 32, 3}, 23), precision);
}

}  // namespace sextant::test
