// SPDX-License-Identifier: Apache-2.0
#include "optim/rep_scales.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/error.h"

namespace sextant::optim {
namespace {

struct ScaleName {
  std::string block, branch;
};

// "<block>.scale_<branch>.weight" split into its parts; empty when `name` has another form.
ScaleName parse(const std::string& name) {
  static const std::string kMiddle = ".scale_", kEnd = ".weight";
  if (!name.ends_with(kEnd)) return {};
  const size_t middle = name.rfind(kMiddle);
  if (middle == std::string::npos || middle == 0) return {};
  const size_t begin = middle + kMiddle.size(), end = name.size() - kEnd.size();
  if (end <= begin || name.substr(begin, end - begin).find('.') != std::string::npos) return {};
  return {name.substr(0, middle), name.substr(begin, end - begin)};
}

std::string scale_name(const std::string& block, const std::string& branch) {
  return block + ".scale_" + branch + ".weight";
}

RepScales collect(const NamedTensors& tensors, const std::string& source) {
  RepScales out;
  out.source = source;
  for (const auto& [name, tensor] : tensors) {
    const ScaleName parts = parse(name);
    if (parts.block.empty()) continue;
    check(tensor.dtype() == DType::kF32 && tensor.shape().rank() == 1,
          "{}: block '{}': scale_{} is {} {}, needs F32 [C]", source, parts.block, parts.branch,
          name_of(tensor.dtype()), tensor.shape().str());
    check(std::ranges::all_of(tensor.span<float>(), [](float v) { return std::isfinite(v); }),
          "{}: block '{}': scale_{} is not finite", source, parts.block, parts.branch);
    out.blocks[parts.block][parts.branch] = tensor;
  }
  check(!out.blocks.empty(),
        "{}: has no scales ('<block>.scale_conv.weight'); is it the checkpoint of a hyper-search?",
        source);
  for (const auto& [block, branches] : out.blocks)
    check(branches.contains("conv"), "{}: block '{}' has no scale_conv", source, block);
  return out;
}

LinearBranch make_branch(const std::string& name, const Tensor& scale, int64_t target_kernel,
                         const std::string& where) {
  if (name == "identity") return identity_branch(scale);
  if (name == "conv") return conv_branch(target_kernel, scale);
  const int64_t kernel = std::strtoll(name.c_str(), nullptr, 10);
  check(name == fmt::format("{0}x{0}", kernel),
        "{}: scale_{} is neither conv, <k>x<k> nor identity", where, name);
  return conv_branch(kernel, scale);
}

}  // namespace

NamedTensors RepScales::named() const {
  NamedTensors out;
  for (const auto& [block, branches] : blocks)
    for (const auto& [branch, tensor] : branches)
      out.emplace_back(scale_name(block, branch), tensor);
  return out;
}

std::string RepScales::fingerprint() const {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, 64 bits
  const auto mix = [&](const void* data, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i)
      hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  };
  for (const auto& [name, tensor] : named()) {
    mix(name.data(), name.size());
    mix(tensor.raw(), static_cast<size_t>(tensor.bytes()));
  }
  return fmt::format("{:016x}", hash);
}

RepScales extract_scales(const SafeTensors& file, const std::string& prefix) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : file.tensors)
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  return collect(tensors, file.path);
}

RepScales extract_scales(const Module& model) {
  NamedTensors tensors;
  for (const ParameterRef& p : model.parameters())
    if (!parse(p.name).block.empty()) tensors.emplace_back(p.name, p.variable.data().clone());
  return collect(tensors, "search model");
}

void check_scales(const RepScales& scales, const RepScales& expected) {
  for (const auto& [block, branches] : expected.blocks) {
    const auto given = scales.blocks.find(block);
    check(given != scales.blocks.end(), "{}: the scales of block '{}' are missing", scales.source,
          block);
    for (const auto& [branch, tensor] : branches) {
      const auto it = given->second.find(branch);
      check(it != given->second.end(), "{}: block '{}': scale_{} is missing", scales.source, block,
            branch);
      check(it->second.shape() == tensor.shape(),
            "{}: block '{}': scale_{} is {}, the model's is {}", scales.source, block, branch,
            it->second.shape().str(), tensor.shape().str());
    }
  }
  for (const auto& [block, branches] : scales.blocks) {
    const auto wanted = expected.blocks.find(block);
    check(wanted != expected.blocks.end(),
          "{}: block '{}' has scales, but the model has no such block", scales.source, block);
    for (const auto& [branch, tensor] : branches)
      check(wanted->second.contains(branch),
            "{}: block '{}': unexpected scale_{}, the model's block has no such branch",
            scales.source, block, branch);
  }
}

std::vector<RepHandler> rep_handlers(const RepScales& scales, const RepScales& expected,
                                     const std::vector<NamedParameter>& target) {
  check_scales(scales, expected);
  std::vector<RepHandler> handlers;
  for (const auto& [block, branches] : scales.blocks) {
    RepHandler handler;
    handler.parameter = block + ".conv.weight";
    const auto it = std::ranges::find(target, handler.parameter, &NamedParameter::name);
    check(it != target.end(), "{}: block '{}' has scales, but the target has no '{}'",
          scales.source, block, handler.parameter);
    const Shape& shape = it->variable.shape();
    for (const auto& [branch, scale] : branches) {
      check(shape.rank() == 4 && scale.shape() == Shape{shape[0]},
            "{}: block '{}': scale_{} is {}, '{}' is {}", scales.source, block, branch,
            scale.shape().str(), handler.parameter, shape.str());
      handler.branches.push_back(make_branch(branch, scale, shape[1],
                                             fmt::format("{}: block '{}'", scales.source, block)));
    }
    handlers.push_back(std::move(handler));
  }
  return handlers;
}

}  // namespace sextant::optim
