// SPDX-License-Identifier: Apache-2.0
// The commands of `sextant`, one file each: a command adds itself to the app, with its options and
// examples.
#pragma once

#include "apps/cli/command_line.h"

namespace sextant::apps {

// All commands, in the order of the help.
void add_commands(Command app);

void add_train_command(Command app);
void add_eval_command(Command app);
void add_diff_command(Command app);
void add_audit_command(Command app);
void add_data_command(Command app);
void add_quantize_command(Command app);
void add_sensitivity_command(Command app);
void add_partial_command(Command app);
void add_qat_command(Command app);
void add_ladder_command(Command app);
void add_detect_command(Command app);
void add_run_command(Command app);
void add_bench_command(Command app);
void add_info_command(Command app);
void add_ranges_command(Command app);
void add_outliers_command(Command app);
void add_verify_command(Command app);
void add_import_command(Command app);
void add_export_command(Command app);
void add_shapes_command(Command app);
void add_report_command(Command app);

}  // namespace sextant::apps
