// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/node_kinds.h"

#include <algorithm>
#include <cmath>

#include "deploy/graph/node_rules.h"

namespace sextant::deploy {
namespace {

template <size_t I>
Attributes made_by_index(size_t index) {
  if constexpr (I + 1 < std::variant_size_v<Attributes>)
    if (index != I) return made_by_index<I + 1>(index);
  return std::variant_alternative_t<I, Attributes>{};
}

class BoundsCheck : public AttributeVisitor {
 public:
  void attribute(const Key& key, AttributeField field, Bounds bounds) override {
    const auto inside = [&](auto number) {
      const auto value = static_cast<double>(number);
      check(std::isfinite(value), "{} is not finite", key.name);
      check(value >= bounds.low && value <= bounds.high, "{} is {}, must be in [{}, {}]", key.name,
            number, bounds.low, bounds.high);
    };
    if (const auto* integer = std::get_if<int64_t*>(&field)) inside(**integer);
    if (const auto* number = std::get_if<float*>(&field)) inside(**number);
    if (const auto* list = std::get_if<std::vector<int64_t>*>(&field))
      std::ranges::for_each(**list, inside);
  }
};

}  // namespace

Attributes default_attributes(NodeKind kind) { return made_by_index<0>(static_cast<size_t>(kind)); }

const Activation* activation_of(const Attributes& attributes) {
  return std::visit(
      [](const auto& a) -> const Activation* {
        if constexpr (requires { a.activation; })
          return &a.activation;
        else
          return nullptr;
      },
      attributes);
}

Activation* activation_of(Attributes& attributes) {
  return const_cast<Activation*>(activation_of(std::as_const(attributes)));
}

void check_attributes(const Attributes& attributes) {
  BoundsCheck bounds;
  visit_attributes(attributes, bounds);
}

}  // namespace sextant::deploy
