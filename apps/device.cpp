#include "apps/device.h"

#include "kernels/cuda/runtime.h"

namespace sextant::apps {

Device choose_device(const std::string& name) {
  if (name == "cpu") return Device::kCpu;
  check(name == "cuda" || name == "auto", "device '{}', must be auto, cpu or cuda", name);
  if (has_accelerator()) return Device::kCuda;
  if (name == "auto" && !kernels::cuda_available()) return Device::kCpu;
  kernels::start_cuda();
  return Device::kCuda;
}

Device choose_device(const std::string& name, deploy::Precision precision, bool simulate) {
  const bool cpu_only = precision == deploy::Precision::kInteger || simulate;
  return choose_device(cpu_only && name == "auto" ? "cpu" : name);
}

void add_device_option(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "Where it runs; auto: on a GPU where there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
}

}  // namespace sextant::apps
