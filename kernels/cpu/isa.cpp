// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/isa.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sextant::kernels::cpu {
namespace {

#if defined(SEXTANT_WIDE)
bool has_avx2_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#if defined(__x86_64__)
std::vector<Isa> find_isas() {
  std::vector<Isa> isas = {Isa::kPortable};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(Isa::kAvx2);
#if defined(SEXTANT_WIDE)
  if (has_avx2_vnni()) isas.push_back(Isa::kAvx2Vnni);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.push_back(Isa::kAvx512);
    if (__builtin_cpu_supports("avx512vnni")) isas.push_back(Isa::kAvx512Vnni);
  }
#endif
  return isas;
}
#else
std::vector<Isa> find_isas() { return {Isa::kPortable}; }
#endif

// What $SEXTANT_ISA names, if anything.
std::optional<Isa> named_isa() {
  const char* name = std::getenv("SEXTANT_ISA");
  if (!name || !*name) return std::nullopt;
  const std::vector<Isa>& found = usable_isas();
  const Isa wanted = from_name<Isa>(name);
  if (std::ranges::find(found, wanted) == found.end()) {
    std::vector<std::string> names;
    for (const Isa i : found) names.emplace_back(name_of(i));
    fail("SEXTANT_ISA={}: must be {} on this processor", name, one_of_list(names));
  }
  return wanted;
}

Isa& current() {
  static Isa isa = named_isa().value_or(usable_isas().back());
  return isa;
}

}  // namespace

const std::vector<Isa>& usable_isas() {
  static const std::vector<Isa> isas = find_isas();
  return isas;
}

Isa isa() { return current(); }

ForcedIsa::ForcedIsa(Isa isa) : before_(current()) { current() = isa; }
ForcedIsa::~ForcedIsa() { current() = before_; }

}  // namespace sextant::kernels::cpu
