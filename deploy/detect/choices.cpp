// SPDX-License-Identifier: Apache-2.0
#include "deploy/detect/choices.h"

namespace sextant::deploy {
namespace {
CudaStarter cuda;
}

void set_cuda_starter(const CudaStarter& starter) { cuda = starter; }

Device choose_device(DeviceChoice choice) {
  if (choice == DeviceChoice::kCpu) return Device::kCpu;
  if (has_accelerator()) return Device::kCuda;
  if (choice == DeviceChoice::kAuto && (cuda.available == nullptr || !cuda.available(nullptr)))
    return Device::kCpu;
  check(cuda.start != nullptr, "this program runs on the CPU only");
  cuda.start();
  return Device::kCuda;
}

Device choose_device(DeviceChoice choice, Precision precision, bool simulate) {
  const bool cpu_only = precision == Precision::kInteger || simulate;
  return choose_device(cpu_only && choice == DeviceChoice::kAuto ? DeviceChoice::kCpu : choice);
}

std::string device_title(Device device) {
  return device == Device::kCpu ? "cpu" : accelerator().name();
}

Precision choose_precision(std::optional<Precision> wanted, const Graph& graph) {
  return wanted.value_or(graph.quantized() ? Precision::kInt8 : Precision::kFloat32);
}

int choose_image_size(int size, const Graph& graph, std::string_view name) {
  const int64_t chosen = size != 0 ? size : (graph.image_size > 0 ? graph.image_size : 640);
  const int64_t multiple = size_multiple(graph);
  check(chosen >= multiple && chosen % multiple == 0 && chosen <= 8192,
        "{} is {}, must be a multiple of {} and at most 8192", name, chosen, multiple);
  const int64_t width = graph.width_for(chosen);
  check(width >= multiple && width % multiple == 0 && width <= 8192,
        "{}: the width is {}, must be a multiple of {} and at most 8192", name, width, multiple);
  return static_cast<int>(chosen);
}

data::LetterboxOptions canvas_for(const Graph& graph, int height) {
  return {.width = static_cast<int>(graph.width_for(height)),
          .height = height,
          .border = static_cast<int>(graph.gray_border)};
}

}  // namespace sextant::deploy
