// SPDX-License-Identifier: Apache-2.0
// The models of a folder of fixtures: which config a file means, and models with its formula weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/yolov6.h"
#include "support/fixtures.h"
#include "support/support.h"

namespace sextant::test {

struct ModelFixture {
  std::string name;  // "yolov6n_opt_repvgg"
  std::string path;  // without extension
  Json json;

  // By the name: a preset, "_fuseab" or "_distill_ns"; training mode and DFL as the file says.
  Yolov6Config config() const;
  // The tensors of NAME.safetensors; nothing when there are none.
  std::optional<SafeTensors> numbers() const;
};

// All models of "<folder>/models", in the order of their names; skips the running test without it.
std::vector<ModelFixture> model_fixtures(const std::string& folder = kFixtures);

// A model with formula weights, and one with those that a fixture says.
std::unique_ptr<Yolov6> formula_model(const Yolov6Config& config, const std::string& salt,
                                      double gain, double norm_bias = 0);
std::unique_ptr<Yolov6> formula_model(const Yolov6Config& config, const SafeTensors& fixture);

}  // namespace sextant::test
