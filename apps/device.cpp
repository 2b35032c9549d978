#include "apps/device.h"

namespace sextant::apps {
namespace {
CudaStarter cuda;
}

void set_cuda_starter(const CudaStarter& starter) { cuda = starter; }

Device choose_device(const std::string& name) {
  if (name == "cpu") return Device::kCpu;
  check(name == "cuda" || name == "auto", "device '{}', must be auto, cpu or cuda", name);
  if (has_accelerator()) return Device::kCuda;
  if (name == "auto" && (cuda.available == nullptr || !cuda.available(nullptr)))
    return Device::kCpu;
  check(cuda.start != nullptr, "this program runs on the CPU only");
  cuda.start();
  return Device::kCuda;
}

Device choose_device(const std::string& name, deploy::Precision precision, bool simulate) {
  const bool cpu_only = precision == deploy::Precision::kInteger || simulate;
  return choose_device(cpu_only && name == "auto" ? "cpu" : name);
}

std::string title_of(Device device) {
  return device == Device::kCpu ? "cpu" : accelerator().name();
}

void add_device_option(Command command, std::string& device) {
  command.add_option("--device", device, "Where it runs; auto: on a GPU where there is one")
      .one_of({"auto", "cpu", "cuda"})
      .show_default();
}

}  // namespace sextant::apps
