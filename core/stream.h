// SPDX-License-Identifier: Apache-2.0
// An opaque CUDA stream, so that kernel contracts compile without CUDA.
#pragma once

namespace sextant {

struct Stream {
  void* handle = nullptr;  // cudaStream_t; null is the default stream
};

}  // namespace sextant
