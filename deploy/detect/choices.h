// What a program decides before it runs a model: device, precision, image size.
#pragma once

#include <string>
#include <string_view>

#include "core/device.h"
#include "deploy/graph/graph.h"

namespace sextant::deploy {

// How this program starts a CUDA device: kernels/cuda/runtime.h, set by main(). Without it no device
// is started, nor where a test has set an accelerator of its own.
struct CudaStarter {
  bool (*available)(std::string* reason) = nullptr;
  void (*start)() = nullptr;
};
void set_cuda_starter(const CudaStarter& starter);

// "cpu"; "cuda": throws Error with the reason when there is no usable GPU; "auto": CUDA if it can be
// used, else the CPU. Starts the device.
Device choose_device(const std::string& name);

// The same for an engine of `precision`: "auto" takes the CPU for what only the CPU does, the fully
// integer mode and the simulation.
Device choose_device(const std::string& name, Precision precision, bool simulate);

// "cpu", or the name of the GPU in use.
std::string device_title(Device device);

// The precision of that name; of an empty one: int8 for a quantized graph, else fp32.
Precision choose_precision(const std::string& name, const Graph& graph);

// `size`, or for 0 the size the model was trained at. Throws Error for a size that is not a multiple
// of the model's largest stride; the message calls it by `option`, the option or config key that
// gave it.
int choose_image_size(int size, const Graph& graph, std::string_view option);

}  // namespace sextant::deploy
