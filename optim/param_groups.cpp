// SPDX-License-Identifier: Apache-2.0
#include "optim/param_groups.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/values.h"

namespace sextant::optim {
namespace {

// Splits off what follows the last dot.
std::pair<std::string_view, std::string_view> split_last(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {std::string_view{}, name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

}  // namespace

ParameterKind parameter_kind(std::string_view name) {
  const auto [owner, last] = split_last(name);
  const std::string_view module = split_last(owner).second;
  if (last == "alpha" || last == "proj" || module == "proj_conv") return ParameterKind::kFrozen;
  if (last == "running_mean" || last == "running_var" || last == "num_batches_tracked") {
    return ParameterKind::kFrozen;
  }
  if (last == "bias") return ParameterKind::kBias;
  if (last == "weight" &&
      (module == "bn" || module.starts_with("bn_") || module == "rbr_identity")) {
    return ParameterKind::kBnWeight;
  }
  return ParameterKind::kWeight;
}

NamedParameter named_parameter(std::string name, Variable variable) {
  const ParameterKind kind = parameter_kind(name);
  return {std::move(name), std::move(variable), kind, {}};
}

int64_t accumulation(int64_t batch, int64_t nominal_batch) {
  check(batch > 0 && nominal_batch > 0, "accumulation: batch {} and nominal batch {} must be > 0",
        batch, nominal_batch);
  const double ratio = static_cast<double>(nominal_batch) / static_cast<double>(batch);
  return std::max<int64_t>(1, std::llrint(ratio));
}

double scaled_weight_decay(double weight_decay, int64_t batch, int64_t nominal_batch) {
  return weight_decay * static_cast<double>(batch * accumulation(batch, nominal_batch)) /
         static_cast<double>(nominal_batch);
}

void restore_tensor(const SafeTensors& file, const std::string& name, const Tensor& target) {
  const Tensor& source = file.at(name);
  check(source.dtype() == target.dtype() && source.shape() == target.shape(),
        "{}: tensor '{}' is {} {}, expected {} {}", file.path, name, name_of(source.dtype()),
        source.shape().str(), name_of(target.dtype()), target.shape().str());
  check_values(source, name, file.path);
  target.copy_from(source);
}

}  // namespace sextant::optim
