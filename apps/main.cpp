#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "deploy/detect/choices.h"
#include "kernels/cuda/runtime.h"

int main(int argc, char** argv) {
  using namespace sextant::apps;
  Program app("Sextant: train YOLOv6 detectors, quantize them, run them in int8", "sextant");
  app.require_command();
  sextant::deploy::set_cuda_starter(
      {sextant::kernels::cuda_available, sextant::kernels::start_cuda});
  app.add_help_all();
  add_train_command(app);
  add_eval_command(app);
  add_quantize_command(app);
  add_sensitivity_command(app);
  add_partial_command(app);
  add_qat_command(app);
  add_ladder_command(app);
  add_detect_command(app);
  add_bench_command(app);
  add_info_command(app);
  add_ranges_command(app);
  add_spread_command(app);
  add_verify_command(app);
  add_import_command(app);
  add_export_command(app);
  add_shapes_command(app);
  add_report_command(app);
  return app.run(argc, argv);
}
