// SPDX-License-Identifier: Apache-2.0
// The teacher of quantization-aware training: the float graph, run by the fp32 engine.
#pragma once

#include <map>
#include <vector>

#include "deploy/engine/engine.h"

namespace sextant::quant {

class DistillationTeacher {
 public:
  // `features`: more tensors of the graph for run() to return. Runs on `device`, where the results
  // stay.
  DistillationTeacher(deploy::Graph graph, std::vector<int> features, Device device = Device::kCpu);

  struct Output {
    std::vector<Tensor> cls_logits, reg, objectness, features;  // f32, as TrainableGraph::Output
  };
  // images: u8 [N,H,W,3], on the host or on the device. Does not wait for the device. Builds an
  // engine for each new input size.
  Output run(const Tensor& images);

 private:
  deploy::Graph graph_;
  std::vector<int> features_;
  Device device_;
  std::map<std::vector<int64_t>, deploy::Engine> engines_;
};

}  // namespace sextant::quant
