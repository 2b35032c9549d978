// SPDX-License-Identifier: Apache-2.0
// cuBLAS, checked and owned. For files compiled by the host compiler only.
#pragma once

#include <cublas_v2.h>

#include "kernels/cuda/device/check.h"

// Throws Error "cuBLAS: <what>: <status>" unless a call succeeds.
#define SEXTANT_CUBLAS(call, what)                                                     \
  do {                                                                                 \
    const cublasStatus_t sextant_status_ = (call);                                     \
    ::sextant::check(sextant_status_ == CUBLAS_STATUS_SUCCESS, "cuBLAS: {}: {}", what, \
                     cublasGetStatusString(sextant_status_));                          \
  } while (false)

namespace sextant::kernels::cuda {

class CublasHandle {
 public:
  CublasHandle() { SEXTANT_CUBLAS(cublasCreate(&handle_), "starting"); }
  ~CublasHandle() { static_cast<void>(cublasDestroy(handle_)); }
  CublasHandle(const CublasHandle&) = delete;
  CublasHandle& operator=(const CublasHandle&) = delete;
  cublasHandle_t on(Stream stream) const {
    SEXTANT_CUBLAS(cublasSetStream(handle_, native(stream)), "a stream");
    return handle_;
  }

 private:
  cublasHandle_t handle_ = nullptr;
};

}  // namespace sextant::kernels::cuda
