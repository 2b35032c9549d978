// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/reads.h"

#include "core/error.h"
#include "core/text.h"

namespace sextant::deploy {

void OnnxReads::check_all_of(const onnx::NodeProto& node) const {
  for (const onnx::AttributeProto& a : node.attribute())
    check(attributes.contains(a.name()), "attribute '{}' is not supported", excerpt(a.name()));
  for (int i = 0; i < node.input_size(); ++i)
    check(node.input(i).empty() || inputs.contains(i), "input {} ('{}') is not supported", i,
          excerpt(node.input(i)));
}

}  // namespace sextant::deploy
