#!/usr/bin/env bash
# Rebuild the bundled `lite` from nothing but BIQ2021: stages 0, 1 and 2, export, evaluation.
#
#   launch/reproduce_lite.sh BIQ2021_FOLDER RUNS_FOLDER
#
# Each step goes on where it was stopped. See MODEL_CARD.md for how long it took, and on what.
set -euo pipefail
if [ $# -ne 2 ]; then sed -n '2,6p' "$0" >&2; exit 2; fi
data=$1 runs=$2
configs=$(cd "$(dirname "$0")/../configs" && pwd)
mkdir -p "$runs"

driqa data prepare biq2021 --data-dir "$data" --out "$data/tfds"
driqa train --config "$configs/pretrain_lite.py" --config.data.path="$data/tfds" --workdir "$runs/pretrain_lite"
driqa train --config "$configs/restore_lite.py" --config.data.path="$data/tfds" \
  --config.init="$runs/pretrain_lite" --workdir "$runs/restore_lite"
driqa train --config "$configs/restore_lite_more.py" --config.data.path="$data/tfds" \
  --config.init="$runs/restore_lite" --workdir "$runs/restore_lite_more"
driqa train --config "$configs/biq2021_lite.py" --config.data.path="$data/tfds" \
  --config.init="$runs/restore_lite_more" --workdir "$runs/biq2021_lite"
driqa export --model "$runs/biq2021_lite" -o "$runs/lite.safetensors" \
  --licence "Apache-2.0; learned from ImageNet (through EfficientNet-Lite0, Apache-2.0) and BIQ2021 (freely available for use and benchmarking)"
driqa evaluate --model "$runs/lite.safetensors" --data biq2021 --data-dir "$data/tfds" --split train/val -o "$runs/biq2021_val.json"
driqa evaluate --model "$runs/lite.safetensors" --data biq2021 --data-dir "$data/tfds" --split test -o "$runs/biq2021_test.json"
