#include "kernels/math/activation.h"

#include <array>
#include <utility>

#include "core/error.h"

namespace sextant {
namespace {
constexpr std::array<std::pair<Activation, const char*>, 7> kNames{
    {{Activation::kIdentity, "identity"},
     {Activation::kReLU, "relu"},
     {Activation::kLeakyReLU, "leaky_relu"},
     {Activation::kSiLU, "silu"},
     {Activation::kHardswish, "hardswish"},
     {Activation::kSigmoid, "sigmoid"},
     {Activation::kMish, "mish"}}};
}  // namespace

const char* name_of(Activation a) { return kNames[static_cast<size_t>(a)].second; }

Activation activation_from_name(const std::string& name) {
  for (const auto& [a, n] : kNames)
    if (name == n) return a;
  fail("activation '{}' is not one of identity, relu, leaky_relu, silu, hardswish, sigmoid, mish",
       name);
}

}  // namespace sextant
