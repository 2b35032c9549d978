// Which device a command runs on.
#pragma once

#include <string>

#include "apps/command_line.h"
#include "core/device.h"
#include "deploy/graph.h"

namespace sextant::apps {

// How this program starts a CUDA device: kernels/cuda/runtime.h, given by main(). Without, and
// where a test has set an accelerator of its own, none is started.
struct CudaStarter {
  bool (*available)(std::string* reason) = nullptr;
  void (*start)() = nullptr;
};
void set_cuda_starter(const CudaStarter& starter);

// "cpu"; "cuda": throws Error with the reason where there is no usable GPU; "auto": CUDA where it
// can be used, else the CPU. Starts the device.
Device choose_device(const std::string& name);

// The same for an engine of `precision`: "auto" takes the CPU for what only it does, the fully
// integer mode and the simulation.
Device choose_device(const std::string& name, deploy::Precision precision, bool simulate);

// "cpu", or the name of the GPU in use.
std::string title_of(Device device);

// --device auto|cpu|cuda
void add_device_option(Command command, std::string& device);

}  // namespace sextant::apps
