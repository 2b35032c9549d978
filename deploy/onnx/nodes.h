// Nodes in both directions, a file for each family: the ONNX operators that its import knows, and
// the kinds that its export writes, in two tables beside the code. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <span>
#include <string_view>

#include "deploy/graph/graph.h"

namespace sextant::deploy {

class OnnxExporter;
class OnnxImporter;

struct OnnxImport {
  std::string_view type;  // of the operator
  // Imports the importer's current node. Throws Error about it, without naming it.
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

// Null for what no family has.
const OnnxImport* onnx_import_of(std::string_view type);
const OnnxExport* onnx_export_of(NodeKind kind);

}  // namespace sextant::deploy
