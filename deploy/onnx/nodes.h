// SPDX-License-Identifier: Apache-2.0
// Import and export of nodes, one file per family: two tables beside the code list the ONNX
// operators that it imports and the kinds that it exports. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <span>
#include <string_view>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

class OnnxExporter;
class OnnxImporter;

struct OnnxImport {
  std::string_view type;  // the operator's type
  // Imports the importer's current node. Throws Error that does not name the node.
  void (*read)(OnnxImporter&);
};

struct OnnxExport {
  NodeKind kind;
  void (*write)(OnnxExporter&, const Node&);
};

struct OnnxNodes {
  std::span<const OnnxImport> imports;
  std::span<const OnnxExport> exports;
};
OnnxNodes arithmetic_nodes();
OnnxNodes convolution_nodes();
OnnxNodes end_nodes();
OnnxNodes pool_nodes();
OnnxNodes quantization_nodes();
OnnxNodes shape_nodes();

// Null if no family has it.
const OnnxImport* onnx_import_of(std::string_view type);
const OnnxExport* onnx_export_of(NodeKind kind);

}  // namespace sextant::deploy
