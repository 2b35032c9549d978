// SPDX-License-Identifier: Apache-2.0
// The CUDA device as the accelerator of core/device.h, with our kernels as its backend.
//
// A build without CUDA has the same two functions (kernels/no_cuda/runtime.cpp): cuda_available()
// is false and start_cuda() says how to build.
#pragma once

#include <string>

namespace sextant::kernels {

// Whether start_cuda() would succeed. `reason`, unless null, receives the message that it would
// throw.
bool cuda_available(std::string* reason = nullptr);

// Makes the current CUDA device (CUDA_VISIBLE_DEVICES chooses it) the accelerator of this process,
// and our kernels its backend. Does nothing the second time. Throws Error, one line, when there is
// no driver, a driver too old for this CUDA, no device, one of compute capability below 8.0, or
// when this build has no kernels for it.
//
// With SEXTANT_DETERMINISTIC=1 in the environment the same program on the same input gives the same
// bits on every run: convolutions always use our kernels (kernels/conv_choice.h) instead of
// choosing by timing, and cuBLAS is limited to one workspace.
void start_cuda();

// SEXTANT_DETERMINISTIC is set to anything but "0".
bool deterministic_mode();

}  // namespace sextant::kernels
