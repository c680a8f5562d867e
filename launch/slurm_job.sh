#!/usr/bin/env bash
# What launch/slurm.sh submits: COMMAND..., once a GPU.
#
#   sbatch [options] launch/slurm_job.sh [--dry-run] COMMAND...
#
# USR1, which Slurm sends before the time limit, becomes SIGTERM for the training; when that has saved, the job is
# queued again. Where Slurm itself told the tasks to end (a preemption, scancel), the job waits for what it has in store.
# Any other end is the job's end.
set -euo pipefail

# --gpu-bind=none: of all the GPUs that it sees JAX takes the one of its task's number. --kill-on-bad-exit=0: a task that
# ends a moment before the others must not have them killed while they save; of a dead one they learn by themselves.
step=(srun --gpu-bind=none --kill-on-bad-exit=0)
if [ "${1-}" = --dry-run ]; then
  # Sourced only here: what Slurm runs is a copy of this file, which has no neighbors.
  . "$(dirname "$0")/dry_run.sh"
  shift
  quoted "${step[@]}" "$@"
  exit 0
fi

# Since 22.05 a step is not given by itself what the job was.
if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi

signalled=0 time_limit=0 pid=
trap 'signalled=1 time_limit=1; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true' USR1
# The tasks have SIGTERM from Slurm; without this it would end the script before they have saved.
trap 'signalled=1' TERM
"${step[@]}" "$@" &
pid=$!
while :; do
  signalled=0 code=0
  wait "$pid" || code=$?
  [ "$signalled" = 1 ] || break  # a signal ends `wait`, not what it waits for
done
if [ "$code" = 143 ] && [ "$time_limit" = 1 ]; then
  echo "saved before the time limit; queued again" >&2
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" = 143 ]; then
  # A preempted job that ends by itself, within the grace that it is given, does not count as preempted and is not queued
  # again. One that was cancelled is killed in half a minute.
  echo "saved; waiting for Slurm to end this job" >&2
  sleep 600
fi
exit "$code"
