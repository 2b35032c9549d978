// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/nodes.h"

#include <algorithm>
#include <array>

namespace sextant::deploy {
namespace {

const auto& families() {
  static const std::array<OnnxNodes, 6> all = {arithmetic_nodes(),   convolution_nodes(),
                                               end_nodes(),          pool_nodes(),
                                               quantization_nodes(), shape_nodes()};
  return all;
}

}  // namespace

const OnnxImport* onnx_import_of(std::string_view type) {
  for (const OnnxNodes& family : families())
    for (const OnnxImport& row : family.imports)
      if (row.type == type) return &row;
  return nullptr;
}

const OnnxExport* onnx_export_of(NodeKind kind) {
  for (const OnnxNodes& family : families())
    for (const OnnxExport& row : family.exports)
      if (row.kind == kind) return &row;
  return nullptr;
}

}  // namespace sextant::deploy
