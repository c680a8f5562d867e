#!/usr/bin/env bash
# Train on a TPU VM or a pod of them: queue it, set it up once, run on all hosts, follow, resume, tear down.
#
#   launch/tpu.sh COMMAND --name NAME --zone ZONE [options] [-- --config F.py --workdir D [--config.KEY=VALUE ...]]
#
#   create     ask for the TPU and wait until it is there
#   setup      bring this repository to every host and install it; once after create, again after a change
#   start      run driqa train, with the arguments after --, on every host, detached
#   logs       follow what the first host prints
#   state      of the TPU, and of the training on each host
#   stop       have the training save and end
#   watch      create, setup and start as it needs, again after each preemption, until the training is through
#   delete     give the TPU back
#
#   --project P        default: gcloud's own
#   --type T           default: v5litepod-16
#   --runtime R        default: v2-alpha-tpuv5-lite, for v5e; v2-alpha-tpuv6e for v6e, tpu-ubuntu2204-base up to v4
#   --spot             cheaper, and preempted at any time
#   --nfs SERVER:/SHARE  mounted on /mnt/driqa of every host
#   --interval N       seconds between looks (default: 60)
#   --restarts N       how often watch starts a training again that failed (default: 5)
#   --dry-run          print the commands, run nothing
#
# The work folder and the data lie where every host finds them, as on the share: --workdir /mnt/driqa/runs/lite. The
# hosts get what is committed here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dry_run.sh"

verb=${1-}
case $verb in
  create | setup | start | logs | state | stop | watch | delete) shift ;;
  --help | -h) help_text; exit 0 ;;
  *) refuse "'$verb': the commands are create, setup, start, logs, state, stop, watch, delete; see --help" ;;
esac
name='' zone='' type=v5litepod-16 runtime=v2-alpha-tpuv5-lite nfs='' spot=() project=() interval=60 restarts=5
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --spot) spot=(--spot) ;;
    --name | --zone | --project | --type | --runtime | --nfs | --interval | --restarts)
      [ $# -gt 1 ] || refuse "$1 lacks its value"
      case $1 in
        --name) name=$2 ;;
        --zone) zone=$2 ;;
        --project) project=("--project=$2") ;;
        --type) type=$2 ;;
        --runtime) runtime=$2 ;;
        --nfs) nfs=$2 ;;
        --interval) interval=$2 ;;
        --restarts) restarts=$2 ;;
      esac
      shift
      ;;
    *) refuse "$1: no such option; the training's own come after --" ;;
  esac
  shift
done
if [ $# -gt 0 ]; then shift; fi
arguments=("$@")
[ -n "$name" ] || refuse "--name is missing"
[ -n "$zone" ] || refuse "--zone is missing"
case $verb in
  start | watch) [ ${#arguments[@]} -gt 0 ] || refuse "after -- come the arguments of driqa train: --config F.py --workdir D" ;;
  *) [ ${#arguments[@]} = 0 ] || refuse "$verb takes no arguments of driqa train" ;;
esac
place=("--zone=$zone" ${project[@]+"${project[@]}"})

on_hosts() { # HOSTS COMMAND...: through ssh, whose other end is a shell again
  local hosts=$1
  shift
  run gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" "--worker=$hosts" "--command=$(quoted "$@")"
}

describe=(gcloud compute tpus queued-resources describe "$name" "${place[@]}" '--format=value(state.state)')

queue_state() { # ABSENT where there is no such request, UNKNOWN where that could not be asked
  local found
  if found=$("${describe[@]}" 2>&1); then
    printf '%s\n' "$found" | tail -n 1
  else
    case $found in *NOT_FOUND*) echo ABSENT ;; *) echo UNKNOWN ;; esac
  fi
}

create() {
  run gcloud compute tpus queued-resources create "$name" "--node-id=$name" "${place[@]}" "--accelerator-type=$type" \
    "--runtime-version=$runtime" ${spot[@]+"${spot[@]}"} || return
  await
}

await() {
  if [ "$dry_run" = 1 ]; then
    run "${describe[@]}"
    return
  fi
  local found
  while :; do
    found=$(queue_state)
    case $found in
      ACTIVE) return ;;
      FAILED | SUSPENDED | ABSENT) echo "the request for $name is $found" >&2; return 1 ;;
    esac
    sleep "$interval"
  done
}

setup() {
  local archive
  archive=${TMPDIR:-/tmp}/driqa_jax-$name.tar.gz
  # `watch` calls this where a failure does not end the script.
  run git -C "$here/.." archive --format=tar.gz "--output=$archive" HEAD || return
  run gcloud compute tpus tpu-vm scp "$archive" "$name:driqa_jax.tar.gz" "${place[@]}" --worker=all || return
  on_hosts all mkdir -p driqa_jax || return
  on_hosts all tar -xzf driqa_jax.tar.gz -C driqa_jax || return
  on_hosts all bash driqa_jax/launch/tpu_worker.sh install ${nfs:+"$nfs"}
}

start() {
  on_hosts all bash driqa_jax/launch/tpu_worker.sh start "${arguments[@]}" --distributed auto
}

# `running` where it runs on any host; else 0 where it ended well on all, none where no host knows of one, 143 where a
# host was told to stop, or the first other code; empty where the hosts do not answer.
training() {
  local found
  found=$(on_hosts all bash driqa_jax/launch/tpu_worker.sh state 2>/dev/null | grep -E '^(none|running|[0-9]+)$' | sort -u) || true
  case $found in
    *running*) echo running ;;
    *) printf '%s\n' "$found" | grep -vx -e 0 -e none | head -n 1 | grep . || printf '%s\n' "$found" | head -n 1 ;;
  esac
}

watch() {
  if [ "$dry_run" = 1 ]; then
    echo '# where there is none yet:'
    create; setup; start
    echo "# every $interval s:"
    run "${describe[@]}"
    on_hosts all bash driqa_jax/launch/tpu_worker.sh state
    echo '# where it was preempted:'
    delete; create; setup; start
    return
  fi
  local failures=0 found
  while :; do
    case $(queue_state) in
      ABSENT) create && setup && start ;;
      SUSPENDED | FAILED) echo "$name was taken away; asking again" >&2; delete ;;
      ACTIVE)
        found=$(training)
        case $found in
          0) echo "the training is through" >&2; return 0 ;;
          2) echo "driqa train refused its arguments; see launch/tpu.sh logs" >&2; return 1 ;;
          running | '') ;;
          none) setup && start ;;
          143) start ;;
          *)
            failures=$((failures + 1))
            echo "the training failed with code $found, $failures time(s)" >&2
            [ "$failures" -le "$restarts" ] || return 1
            start
            ;;
        esac
        ;;
    esac || true
    sleep "$interval"
  done
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
}

case $verb in
  logs) on_hosts 0 tail -n 100 -F driqa_run/log ;;
  stop) on_hosts all bash driqa_jax/launch/tpu_worker.sh stop ;;
  state)
    run "${describe[@]}"
    on_hosts all bash driqa_jax/launch/tpu_worker.sh state
    ;;
  *) "$verb" ;;
esac
