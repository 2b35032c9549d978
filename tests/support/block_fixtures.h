// SPDX-License-Identifier: Apache-2.0
// The blocks of a folder of fixtures, made from the files' own names, shapes and structure.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "layers/lite_blocks.h"
#include "layers/stages.h"
#include "support/fixtures.h"
#include "support/support.h"

namespace sextant::test {

struct FixtureBlock {
  std::shared_ptr<Module> module;
  std::function<Variable(const std::vector<Variable>&)> forward;
};

struct BlockFixture {
  std::string name;  // without extension
  SafeTensors file;

  // Throws Error for a name that no block is known for.
  FixtureBlock make() const;
  // "x", or "x0", "x1", ... of a block with several inputs.
  std::vector<std::string> inputs() const;
  // The entries of `param.` with counters at zero, as a state dict for `module`.
  SafeTensors state(const Module& module) const;
};

// All files of "<folder>/blocks" in the order of their names; skips the running test without it.
std::vector<BlockFixture> block_fixtures(const std::string& folder = kFixtures);

}  // namespace sextant::test
