// SPDX-License-Identifier: Apache-2.0
#include "apps/commands/commands.h"

namespace sextant::apps {

void add_commands(Command app) {
  for (const auto add :
       {add_train_command,  add_eval_command,     add_diff_command,        add_audit_command,
        add_data_command,   add_quantize_command, add_sensitivity_command, add_partial_command,
        add_qat_command,    add_ladder_command,   add_detect_command,      add_run_command,
        add_bench_command,  add_info_command,     add_ranges_command,      add_outliers_command,
        add_verify_command, add_import_command,   add_export_command,      add_shapes_command,
        add_report_command})
    add(app);
}

}  // namespace sextant::apps
