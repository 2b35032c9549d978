// What our oneDNN callers share: one engine, one stream, one error check.
#pragma once

#include <dnnl.hpp>

#include "core/error.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {

inline dnnl::engine& onednn_engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

inline dnnl::stream& onednn_stream() {
  static dnnl::stream stream(onednn_engine());
  return stream;
}

// Runs oneDNN calls and turns their exception into ours, naming the operation.
template <class F>
auto onednn_call(const char* what, F&& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    fail("{}: oneDNN: {} (status {})", what, e.what(), static_cast<int>(e.status));
  }
}

}  // namespace sextant::kernels::SEXTANT_CPU
