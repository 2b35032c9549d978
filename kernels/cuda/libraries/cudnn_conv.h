// SPDX-License-Identifier: Apache-2.0
// The convolutions of kernels/conv.h and kernels/conv_int8.h as cuDNN plans.
//
// plan_...() returns nothing if cuDNN cannot do it in the precision of our contract: f32 is
// multiplied as f32 (not as TF32), no Winograd, no sums in half precision, and no engine whose
// result depends on timing. A plan depends only on which pointers are null; run_...() needs them
// aligned to 16 bytes.
#pragma once

#include <optional>

#include "kernels/conv.h"
#include "kernels/conv_int8.h"
#include "kernels/cuda/libraries/cudnn_graph.h"

namespace sextant::kernels::cudnn {

std::optional<Plan> plan_conv_forward(const ConvForward& p, const DeviceProperties& device);
std::optional<Plan> plan_conv_backward_data(const ConvBackwardData& p,
                                            const DeviceProperties& device);
std::optional<Plan> plan_conv_backward_weight(const ConvBackwardWeight& p,
                                              const DeviceProperties& device);
// (sum + bias) * factor, as the contract says: in this order a compiler finds no multiply and add
// to fuse, so that the integers are the CPU's. Activations: identity, ReLU, leaky ReLU, SiLU,
// sigmoid.
std::optional<Plan> plan_conv_int8_forward(const ConvInt8Forward& p,
                                           const DeviceProperties& device);

void run(const Plan& plan, const ConvForward& p, cudnnHandle_t handle, void* workspace);
void run(const Plan& plan, const ConvBackwardData& p, cudnnHandle_t handle, void* workspace);
void run(const Plan& plan, const ConvBackwardWeight& p, cudnnHandle_t handle, void* workspace);
void run(const Plan& plan, const ConvInt8Forward& p, cudnnHandle_t handle, void* workspace);

}  // namespace sextant::kernels::cudnn
