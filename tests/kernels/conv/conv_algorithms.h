// SPDX-License-Identifier: Apache-2.0
// Every way in which the CPU can compute a convolution.
#pragma once

#include <vector>

#include "kernels/conv.h"
#include "kernels/cpu/isa.h"
#include "support/support.h"

namespace sextant::test {

inline std::vector<kernels::cpu::ConvAlgorithm> algorithms_for(const kernels::ConvShape& s) {
  using enum kernels::cpu::ConvAlgorithm;
  const bool depthwise = s.groups == s.ic;
  if (s.kh != 3 || s.kw != 3 || s.stride != 1 || depthwise) return {kDirect};
  return {kDirect, kWinograd2, kWinograd4};
}

// Calls body(algorithm) for each instruction set of this processor and each algorithm.
template <class Body>
void each_algorithm(const kernels::ConvShape& s, const Body& body) {
  for (const kernels::cpu::Isa isa : kernels::cpu::usable_isas()) {
    const kernels::cpu::ForcedIsa forced(isa);
    for (const kernels::cpu::ConvAlgorithm algorithm : algorithms_for(s)) {
      CAPTURE(name_of(isa), name_of(algorithm));
      body(algorithm);
    }
  }
}

}  // namespace sextant::test
