// SPDX-License-Identifier: Apache-2.0
// The deploy file: a fused graph, with or without ranges, as one .safetensors.
//
// Tensors, in PyTorch's layout (conv OIHW, deconv IOHW): "<node>.weight" (F32; I8 when quantized,
// with "<node>.weight_scale" F32 [O]) and "<node>.bias" and "<node>.gain" (F32). The rest is JSON under
// __metadata__["sextant"]:
//   {"format": "sextant-deploy", "version": 1, "image_size": 640, "class_names": [...],
//    "input": "images", "output": "decode",
//    "nodes": [{"name", "kind", "inputs": [tensor names], attributes ...}, ...],
//    "tensors": [{"name", "shape", "group", "unsigned", "amax"}, ...]}
// A quantized file loads for either precision; f32 then runs on the dequantized weights. What a file
// says of itself lies beside it (deploy/graph/proof.h).
#pragma once

#include <filesystem>
#include <string>

#include "core/safetensors.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

// `extra` holds additional metadata strings. Throws Error naming the file when it cannot be written
// or could not be read back (a weight that is not finite).
void save_deploy(const std::filesystem::path& path, const Graph& graph,
                 const std::map<std::string, std::string>& extra = {});

// Throws Error naming the file and the node or tensor for anything invalid: not a deploy file, a
// later version, unknown kinds, cycles, missing or misshapen tensors, numbers out of bounds.
Graph load_deploy(const std::filesystem::path& path);
Graph load_deploy(const SafeTensors& file);

// What Proof::of is compared with: the hash of the file that the graph would make.
std::string content_hash(const Graph& graph);

// Gives a deploy file another proof, of the file as it is. Throws as load_deploy().
void replace_proof(const std::filesystem::path& path, Proof proof);

// Whether the metadata declares a deploy file (otherwise it may be a checkpoint).
bool is_deploy_file(const SafeTensors& file);

}  // namespace sextant::deploy
