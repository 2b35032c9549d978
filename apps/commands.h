// The subcommands of `sextant`, one file each (command_<name>.cpp). Each adds itself to the app.
#pragma once

#include <CLI/CLI.hpp>

namespace sextant::apps {

void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_sensitivity_command(CLI::App& app);
void add_partial_command(CLI::App& app);
void add_qat_command(CLI::App& app);
void add_ladder_command(CLI::App& app);
void add_detect_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_ranges_command(CLI::App& app);
void add_spread_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_import_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_shapes_command(CLI::App& app);
void add_report_command(CLI::App& app);

}  // namespace sextant::apps
