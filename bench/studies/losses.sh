#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Swaps loss and assigner by config only: short runs of YOLOv6-N on BCCD, mAP of the last epoch.
# The baseline runs with three seeds, which shows how much of a difference is luck.
#   bench/studies/losses.sh OUT
set -euo pipefail
root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
sextant="${SEXTANT:-$root/build/sextant}"
out="${1:?a folder for the runs}"
mkdir -p "$out"
rows=()

run() { # NAME [--set key=value]...
  local name="$1"
  shift
  "$sextant" train "$root/configs/bccd_yolov6n.json" --out "$out/$name" --set image_size=192 \
    --set epochs=12 --set close_mosaic=3 --set eval_interval=12 --set solver.warmup_epochs=1 "$@"
  "$sextant" eval "$out/$name/last.safetensors" --data "$root/../shared/data/bccd" \
    --json "$out/$name/eval.json"
  rows+=("$name=$out/$name/eval.json")
}

for seed in 0 1 2; do run "varifocal-siou-tal-seed$seed" --set seed=$seed; done
for cls in focal quality_focal poly; do run "$cls-siou-tal" --set loss.cls=$cls; done
for iou in giou diou ciou alpha_ciou; do run "varifocal-$iou-tal" --set loss.iou=$iou; done
for assigner in atss simota; do run "varifocal-siou-$assigner" --set loss.assigner=$assigner; done
run varifocal-siou-simota-objectness --set model.objectness=true --set loss.assigner=simota
run varifocal-siou-tal-dfl --set model.use_dfl=true --set model.reg_max=16
"$sextant" report "${rows[@]}"
