// SPDX-License-Identifier: Apache-2.0
// libFuzzer's door: the reader is named by SEXTANT_FUZZ_READER. With SEXTANT_FUZZ_SEEDS set, seeds are
// written there instead and the program ends.
#include <cstdio>
#include <cstdlib>

#include "core/parallel.h"
#include "fuzz/readers.h"

namespace {
const sextant::fuzz::Reader* reader = nullptr;
}

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  sextant::set_num_threads(1);
  if (const char* seeds = std::getenv("SEXTANT_FUZZ_SEEDS")) {
    sextant::fuzz::write_seeds(seeds);
    std::exit(0);
  }
  const char* name = std::getenv("SEXTANT_FUZZ_READER");
  reader = sextant::fuzz::find_reader(name == nullptr ? "" : name);
  if (reader != nullptr) return 0;
  std::fputs("SEXTANT_FUZZ_READER must be one of:", stderr);
  for (const auto& r : sextant::fuzz::readers()) std::fprintf(stderr, " %s", r.name.c_str());
  std::fputs("\n", stderr);
  std::exit(2);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    sextant::fuzz::run(*reader, {data, size});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::abort();
  }
  return 0;
}
