#!/usr/bin/env bash
# Rebuild the bundled `lite-0.5` from nothing but BIQ2021: stages 0, 1 and 2, export, evaluation.
#
#   launch/reproduce_lite.sh BIQ2021_FOLDER RUNS_FOLDER
#   launch/reproduce_lite.sh --smoke RUNS_FOLDER      the same commands, a few steps each, on generated pictures
#
# Each step goes on where it was stopped. See MODEL_CARD.md for how long it took, and on what.
set -euo pipefail
if [ $# -ne 2 ]; then sed -n '2,7p' "$0" >&2; exit 2; fi
data=$1 runs=$2
configs=$(cd "$(dirname "$0")/../configs" && pwd)
mkdir -p "$runs"

if [ "$data" = --smoke ]; then
  source=(--config.data.kind=fake --config.data.fake_count=160 --config.steps=2 --config.eval_every=0
    --config.view.short=64 --config.view.canvas='(64, 64)' --config.view.tile=64 --config.pretrain.crop=32)
  judge=(--data fake)
else
  driqa data prepare biq2021 --data-dir "$data" --out "$data/tfds"
  source=(--config.data.path="$data/tfds")
  judge=(--data biq2021 --data-dir "$data/tfds")
fi

train() {  # CONFIG INIT: a training by the name of its configuration
  driqa train --config "$configs/$1.py" "${source[@]}" ${2:+--config.init="$runs/$2"} --workdir "$runs/$1"
}
train pretrain_lite
train restore_lite pretrain_lite
train restore_lite_more restore_lite
train biq2021_lite restore_lite_more
train biq2021_lite_more biq2021_lite
driqa export --model "$runs/biq2021_lite_more" -o "$runs/lite.safetensors" \
  --licence "Apache-2.0; learned from ImageNet (through EfficientNet-Lite0, Apache-2.0) and BIQ2021 (freely available for use and benchmarking)"
driqa evaluate --model "$runs/lite.safetensors" "${judge[@]}" --split train/val -o "$runs/biq2021_val.json"
driqa evaluate --model "$runs/lite.safetensors" "${judge[@]}" --split test -o "$runs/biq2021_test.json"
