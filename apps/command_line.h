// What the commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "deploy/graph.h"

namespace sextant::apps {

// Parses, runs the chosen subcommand, and turns every mistake of the user into one line on stderr
// and exit code 2.
int run_app(CLI::App& app, int argc, char** argv);

// "--precision fp32|int8|integer"; empty means: int8 for a quantized model, else fp32.
deploy::Precision choose_precision(const std::string& option, const deploy::Graph& graph);

// Image size: the option, or (0) the size the model was trained at. Throws Error for one that is no
// multiple of the model's largest stride.
int choose_image_size(int option, const deploy::Graph& graph);

}  // namespace sextant::apps
