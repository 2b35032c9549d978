// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files with one array of float32 in C order.
#pragma once

#include <filesystem>

#include "core/tensor.h"

namespace sextant {

// Throws Error naming the file when it is not a .npy file, holds another type or order, or has not
// as many bytes as its shape says.
Tensor load_npy(const std::filesystem::path& path);

// Written atomically (core/file.h), format version 1.0. f32, on the host.
void save_npy(const std::filesystem::path& path, const Tensor& t);

}  // namespace sextant
