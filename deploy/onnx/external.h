// SPDX-License-Identifier: Apache-2.0
// Weights that an ONNX model stores in separate files. Internal to deploy/onnx.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>

namespace sextant::deploy {

// Loads the data that initializers and constants keep in other files into the model. The files have
// to lie in `folder`, after following links. Returns the number of bytes read. Throws Error naming
// the tensor.
int64_t read_external_data(onnx::GraphProto& graph, const std::filesystem::path& folder);

}  // namespace sextant::deploy
