// Which device a command runs on.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/device.h"
#include "deploy/graph.h"

namespace sextant::apps {

// "cpu"; "cuda": throws Error with the reason where there is no usable GPU; "auto": CUDA where it
// can be used, else the CPU. Starts the device.
Device choose_device(const std::string& name);

// The same for an engine of `precision`: "auto" takes the CPU for what only it does, the fully
// integer mode and the simulation.
Device choose_device(const std::string& name, deploy::Precision precision, bool simulate);

// --device auto|cpu|cuda
void add_device_option(CLI::App& command, std::string& device);

}  // namespace sextant::apps
