#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the commands of docs/comparison.md, one after the other, on BCCD, and says for each whether it
# ended well. Small images and few epochs: whether they work, not how well.
#   bench/studies/features.sh DATA OUT
set -uo pipefail
root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
build="${SEXTANT_BUILD:-$root/build}"
data="$(readlink -f "${1:?the folder of BCCD}")" out="${2:?a new folder for the results}"
mkdir -p "$out"
failed=0

row() { # WHAT COMMAND...
  local what="$1"
  shift
  if "$@" >"$out/log" 2>&1; then
    printf 'ok      %s\n' "$what"
  else
    printf 'FAILED  %s: %s\n' "$what" "$(tail -1 "$out/log")"
    failed=1
  fi
}
sextant() { "$build/sextant" "$@"; }
train() { sextant train "$root/configs/bccd_yolov6n.json" --set data.path="$data" --set image_size=96 --set data.fraction=0.1 --set epochs=1 "$@"; }

row 'train' train --out "$out/a"
row 'train --resume' train --out "$out/a" --resume --set epochs=2
row 'image_size=[H,W]' train --set 'image_size=[64,96]' --out "$out/rect"
row 'train --budget --batch auto' train --budget 60s --batch auto --out "$out/budget"
row 'train --find-lr' train --find-lr --out "$out/rates"
row 'class_weights, single_cls' train --set 'loss.class_weights={"Platelets":3}' --out "$out/weights"
row 'data.single_cls' train --set data.single_cls=true --out "$out/single"
row 'training.mode repopt' sextant train "$root/configs/bccd_yolov6n_repopt.json" --set data.path="$data" \
  --set image_size=96 --set data.fraction=0.1 --set epochs=1 --set training.search.epochs=1 --out "$out/repopt"
if command -v mpirun >/dev/null; then
  row 'mpirun -np 2 sextant train' mpirun --allow-run-as-root --oversubscribe -np 2 "$build/sextant" train \
    "$root/configs/bccd_yolov6n.json" --set data.path="$data" --set image_size=96 --set data.fraction=0.1 \
    --set epochs=1 --out "$out/two"
fi
row 'data check' sextant data check "$data"
row 'data stats' sextant data stats "$data" --out "$out/labels.html"
row 'data convert' sextant data convert "$data" --to coco --out "$out/coco"
row 'data split' sextant data split "$out/coco" --val 0.2 --to voc --out "$out/voc"
row 'data check of what was written' sextant data check "$out/voc"
row 'audit' sextant audit "$out/a/best.safetensors" --data "$data" --split val --out "$out/audit.html"
row 'report A B' sextant report "$out/a" "$out/weights" --out "$out/runs.html"
row 'quantize' sextant quantize "$out/a/best.safetensors" --data "$data" --out "$out/int8.safetensors"
row 'diff A B' sextant diff "$out/a/model.safetensors" "$out/int8.safetensors" --data "$data" --out "$out/diff"
row 'sensitivity' sextant sensitivity "$out/a/best.safetensors" --data "$data" --json "$out/sensitivity.json"
row 'partial' sextant partial "$out/a/best.safetensors" --data "$data" --max-drop 1 --out "$out/partial.safetensors"
row 'qat' sextant qat "$root/configs/bccd_qat.json" --set model="$out/a/best.safetensors" --set data.path="$data" \
  --set data.fraction=0.1 --set epochs=1 --out "$out/qat"
row 'ladder' sextant ladder "$root/configs/bccd_ladder.json" --set model="$out/a/best.safetensors" \
  --set data.path="$data" --set bench.runs=2 --out "$out/ladder"
row 'sextant-infer' "$build/sextant-infer" "$out/int8.safetensors" "$data/images/test" --out "$out/found"
row 'sextant-infer --selftest' "$build/sextant-infer" "$out/int8.safetensors" --selftest
row 'info' sextant info "$out/int8.safetensors"
row 'export --onnx' sextant export "$out/int8.safetensors" --onnx "$out/int8.onnx"
row 'import' sextant import "$out/int8.onnx" --out "$out/imported.safetensors"
row 'detect' sextant detect "$out/int8.safetensors" "$data/images/test" --out "$out/found2"
row 'bench --presets' sextant bench --presets yolov6n_opt --runs 2
exit "$failed"
