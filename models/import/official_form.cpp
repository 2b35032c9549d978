// SPDX-License-Identifier: Apache-2.0
#include "models/import/official_form.h"

#include <algorithm>
#include <string>

#include "layers/blocks.h"

namespace sextant {
namespace {

bool ends_with_any(const std::string& name, std::initializer_list<const char*> ends) {
  for (const char* e : ends)
    if (name.ends_with(e)) return true;
  return false;
}

}  // namespace

int64_t official_deploy_parameters(const Module& model) {
  int64_t sum = 0;
  for (const ParameterRef& p : model.parameters()) {
    const std::string& name = p.name;
    const Shape& shape = p.variable.shape();
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    // RepVGG's 1x1 and identity go into the 3x3, every batch-norm of a branch or ConvModule too
    const bool gone = has(".rbr_1x1.") || has(".rbr_identity.") || has(".rbr_dense.bn.") ||
                      has(".block.bn.") || has(".cv1.bn.") || has(".cv2.bn.");
    if (gone) continue;
    sum += shape.numel();
    const bool gets_bias = ends_with_any(name, {".rbr_dense.conv.weight", ".block.conv.weight",
                                                ".cv1.conv.weight", ".cv2.conv.weight"});
    if (gets_bias) sum += shape[0];
  }
  return sum;
}

void add_absorbed_norms(const Module& model, SafeTensors& state) {
  constexpr std::string_view kMean = ".running_mean";
  for (const BufferRef& buffer : model.buffers()) {
    if (!buffer.name.ends_with(kMean)) continue;
    const std::string norm = buffer.name.substr(0, buffer.name.size() - kMean.size());
    const auto has = [&](const char* entry) { return state.find(norm + entry) != nullptr; };
    if (has(".weight") || has(".bias") || has(".running_mean") || has(".running_var")) continue;
    const Shape shape = buffer.tensor.shape();
    Tensor bias = Tensor::zeros(shape);
    // "a.block.bn" behind "a.block.conv", which has no bias of its own
    const std::string absorbed = norm.substr(0, norm.rfind('.') + 1) + "conv.bias";
    if (norm.ends_with(".bn") && state.find(absorbed)) {
      bias = state.at(absorbed);
      std::erase_if(state.tensors, [&](const auto& t) { return t.first == absorbed; });
    }
    state.add(norm + ".weight", Tensor::full(shape, 1.0f));
    state.add(norm + ".bias", bias);
    state.add(norm + ".running_mean", Tensor::zeros(shape));
    state.add(norm + ".running_var", Tensor::full(shape, 1.0f - kBatchNormEps));
  }
}

}  // namespace sextant
