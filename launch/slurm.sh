#!/usr/bin/env bash
# Submit a training, or a sweep of them as an array, to Slurm: one task per GPU; every task sees all GPUs of its node.
#
#   launch/slurm.sh [options] [sbatch options] -- --config F.py --workdir D [--config.KEY=VALUE ...]
#
#   --nodes N       nodes of a training (default: 1)
#   --gpus N        GPUs, and so tasks, of a node (default: 8)
#   --sweep FILE    one job of an array for each line of FILE; see launch/sweep.sh
#   --at-most N     jobs of the array at a time
#   --grace N       seconds before the end of the time limit at which the training is told to save (default: 300)
#   --dry-run       print the commands, submit nothing
#
# Everything else before -- goes to sbatch: --partition=gpu --time=12:00:00 --cpus-per-task=8 --account=...
# The environment with driqa in it is the one that is active here. The work folder, the configuration, the data and
# this folder lie where every node finds them by the same path. A preempted job is queued again by Slurm, one that
# reaches its time limit by itself; both go on from what was saved. `scancel` saves too, and is not queued again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dry_run.sh"

nodes=1 gpus=8 grace=300 sweep='' at_most='' options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --nodes | --gpus | --grace | --sweep | --at-most)
      [ $# -gt 1 ] || refuse "$1 lacks its value"
      case $1 in
        --nodes) nodes=$2 ;;
        --gpus) gpus=$2 ;;
        --grace) grace=$2 ;;
        --sweep) sweep=$2 ;;
        --at-most) at_most=$2 ;;
      esac
      shift
      ;;
    --help | -h) help_text; exit 0 ;;
    -*=* | --exclusive) options+=("$1") ;;
    *) refuse "$1: options for sbatch are written --KEY=VALUE; the training's own come after --" ;;
  esac
  shift
done
[ $# -gt 1 ] || refuse "after -- come the arguments of driqa train: --config F.py --workdir D"
shift

workdir='' previous=''
for word; do
  case $previous in --workdir) workdir=$word ;; esac
  case $word in --workdir=*) workdir=${word#--workdir=} ;; esac
  previous=$word
done
[ -n "$workdir" ] || refuse "--workdir D is missing among the arguments of driqa train"

log=slurm-%j.log command=(driqa train "$@" --distributed auto)
if [ -n "$sweep" ]; then
  jobs=$("$here/sweep.sh" --count "$sweep" -- "$@")
  options+=("--array=1-$jobs${at_most:+%$at_most}")
  log=slurm-%A_%a.log
  command=("$here/sweep.sh" --array-task "$sweep" -- "$@" --distributed auto)
fi

run mkdir -p "$workdir"
# --open-mode: a job that is queued again goes on in its log. --signal: to the job's script alone, which knows then that
# it is the time limit.
run sbatch --job-name=driqa "--nodes=$nodes" "--ntasks-per-node=$gpus" "--gpus-per-node=$gpus" --requeue \
  --open-mode=append "--signal=B:USR1@$grace" "--output=${workdir//%/%%}/$log" ${options[@]+"${options[@]}"} \
  "$here/slurm_job.sh" "${command[@]}"
if [ "$dry_run" = 1 ]; then
  echo '# in each job:'
  "$here/slurm_job.sh" --dry-run "${command[@]}"
fi
