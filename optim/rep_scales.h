// SPDX-License-Identifier: Apache-2.0
// The scales that a hyper-search learns, and what they mean for the target model.
//
// The search model's blocks (LinearAddBlock) multiply each branch by a trained scale per channel,
// "<block>.scale_<branch>.weight" [C]. The branch's name says what it is:
//
//   conv        the convolution that gives the target its size ("<block>.conv.weight")
//   <k>x<k>     a convolution of that kernel
//   identity    the input itself
//
// The target model's block has "<block>.conv.weight" alone. Everything is matched by these names,
// never by the order of modules.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "layers/module.h"
#include "optim/rep_handler.h"

namespace sextant::optim {

// By block, by branch; F32 [C].
struct RepScales {
  std::map<std::string, std::map<std::string, Tensor>> blocks;
  std::string source;  // for messages: the file

  // "<block>.scale_<branch>.weight": what extract_scales() reads back.
  NamedTensors named() const;
  // A hash of names and values, 16 hexadecimal digits: tells whether two runs have the same scales.
  std::string fingerprint() const;
};

// All tensors named like a scale whose name starts with `prefix`, which is removed: from a search's
// checkpoint, or from a file that holds only scales. Throws Error naming file and block when there
// are none, when a block has no scale_conv, or when a scale is not F32 [C] or not finite.
RepScales extract_scales(const SafeTensors& file, const std::string& prefix = "");
// The same from a model, copied.
RepScales extract_scales(const Module& model);

// Throws Error naming block and branch when `scales` lacks one of `expected`, has an extra one, or
// has one of another shape. `expected`: the scales of the target's parallel form, i.e. what
// extract_scales(search model) finds in a model of the same config; its values do not matter.
void check_scales(const RepScales& scales, const RepScales& expected);

// One handler per block, after check_scales(). Throws Error naming the block when `target` has no
// matching "<block>.conv.weight".
std::vector<RepHandler> rep_handlers(const RepScales& scales, const RepScales& expected,
                                     const std::vector<NamedParameter>& target);

}  // namespace sextant::optim
