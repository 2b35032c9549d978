// Weights that an ONNX model keeps in files beside it. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>

namespace sextant::deploy {

// Reads what initializers and constants of the model have in other files, which have to lie in
// `folder`, into the model. Throws Error naming the tensor.
void read_external_data(onnx::GraphProto& graph, const std::filesystem::path& folder);

}  // namespace sextant::deploy
