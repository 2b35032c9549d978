// SPDX-License-Identifier: Apache-2.0
// What a program decides before it runs a model: device, precision, image size.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/device.h"
#include "data/image/letterbox.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

// How this program starts a CUDA device: kernels/cuda/runtime.h, set by main(). No device is
// started without it, or when a test has installed its own accelerator.
struct CudaStarter {
  bool (*available)(std::string* reason) = nullptr;
  void (*start)() = nullptr;
};
void set_cuda_starter(const CudaStarter& starter);

enum class DeviceChoice {
  kAuto,  // CUDA where it can be used, else the CPU
  kCpu,
  kCuda,
};
constexpr auto enum_names(DeviceChoice) {
  return make_enum_names<DeviceChoice>(
      "device",
      {{DeviceChoice::kAuto, "auto"}, {DeviceChoice::kCpu, "cpu"}, {DeviceChoice::kCuda, "cuda"}});
}

// Starts the device. Throws Error with the reason when a GPU is requested and none is usable.
Device choose_device(DeviceChoice choice);

// The same for an engine of `precision`: kAuto chooses the CPU for the fully integer mode and the
// simulation, which only the CPU supports.
Device choose_device(DeviceChoice choice, Precision precision, bool simulate);

// "cpu", or the name of the GPU in use.
std::string device_title(Device device);

// `wanted` if given, else int8 for a quantized graph and fp32 for a float one.
Precision choose_precision(std::optional<Precision> wanted, const Graph& graph);

// The height of images: `size`, or for 0 the size the model was trained at; Graph::width_for() gives
// their width. Throws Error for a size that is not a multiple of the model's largest stride; the
// message starts with `name`, the option or the config's file and key.
int choose_image_size(int size, const Graph& graph, std::string_view name);

// How images of that height are letterboxed for the model: its width for it, and its grey border.
data::LetterboxOptions canvas_for(const Graph& graph, int height);

}  // namespace sextant::deploy
