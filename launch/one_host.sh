#!/usr/bin/env bash
# Train on several GPUs of this machine, one process per GPU.
#
#   launch/one_host.sh [options] -- --config F.py --workdir D [--config.KEY=VALUE ...]
#
#   --gpus 0,1,2    which (default: all that nvidia-smi lists)
#   --cpu N         N processes on the CPU instead: to see here what several hosts will do
#   --port P        at which the processes meet, on this machine alone (default: 8476)
#   --dry-run       print the commands, run nothing
#
# One process drives all GPUs as well: plain `driqa train` does. A process a GPU has its pictures decoded by as many
# Python interpreters. SIGTERM and Ctrl-C save in all of them; the same command goes on.
# exit codes: 0 trained, 2 usage error, 143 SIGTERM, 130 Ctrl-C, else that of the first process that failed
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dry_run.sh"

gpus='' cpu='' port=8476
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --gpus | --cpu | --port)
      [ $# -gt 1 ] || refuse "$1 lacks its value"
      case $1 in --gpus) gpus=$2 ;; --cpu) cpu=$2 ;; --port) port=$2 ;; esac
      shift
      ;;
    --help | -h) help_text; exit 0 ;;
    *) refuse "$1: no such option; the training's own come after --" ;;
  esac
  shift
done
[ $# -gt 1 ] || refuse "after -- come the arguments of driqa train: --config F.py --workdir D"
shift

settings=()
if [ -n "$cpu" ]; then
  case $cpu in *[!0-9]* | 0) refuse "--cpu $cpu: not a number of processes" ;; esac
  for ((i = 0; i < cpu; i++)); do settings+=(JAX_PLATFORMS=cpu); done
else
  if [ -z "$gpus" ]; then
    gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd , -) || refuse "nvidia-smi lists no GPU; say --gpus 0,1"
  fi
  while IFS= read -r gpu; do settings+=("CUDA_VISIBLE_DEVICES=$gpu"); done < <(printf '%s\n' "$gpus" | tr , '\n')
fi
count=${#settings[@]}

pids=() stop=0
# shellcheck disable=SC2329 # called by the traps
forward() {
  stop=$1
  kill -TERM "${pids[@]}" 2>/dev/null || true
}
trap 'forward 143' TERM
trap 'forward 130' INT
for ((i = 0; i < count; i++)); do
  command=(env "${settings[i]}" driqa train "$@" --distributed "localhost:$port,$count,$i")
  if [ "$dry_run" = 1 ]; then run "${command[@]}"; continue; fi
  "${command[@]}" &
  pids+=("$!")
done

# A process that fails ends the others: they would wait for it, and could save nothing.
code=0 seconds=0
while [ ${#pids[@]} -gt 0 ]; do
  sleep 1
  alive=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then alive+=("$pid"); continue; fi
    one=0
    wait "$pid" || one=$?
    [ "$code" != 0 ] || code=$one
  done
  pids=(${alive[@]+"${alive[@]}"})
  if [ "$code" != 0 ] && [ "$stop" = 0 ] && [ ${#pids[@]} -gt 0 ]; then
    case $seconds in
      0) echo "a process ended with code $code; ending the others" >&2; kill -TERM "${pids[@]}" || true ;;
      30) kill -KILL "${pids[@]}" || true ;;
    esac
    seconds=$((seconds + 1))
  fi
done
if [ "$stop" = 130 ] && [ "$code" = 143 ]; then code=130; fi
exit "$code"
