#!/usr/bin/env bash
# What launch/tpu.sh runs on every host of a TPU VM, in the copy of the repository that it brought there.
#
#   launch/tpu_worker.sh install [NFS_SERVER:/SHARE]   Python 3.11 and driqa in ~/driqa_env; the share on /mnt/driqa
#   launch/tpu_worker.sh start ARGUMENTS...            driqa train ARGUMENTS, detached; its output in ~/driqa_run/log
#   launch/tpu_worker.sh state                         one of: none, running, or the exit code of the training
#   launch/tpu_worker.sh stop                          SIGTERM: the training saves and exits with 143
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
environment=$HOME/driqa_env state=$HOME/driqa_run

running() {
  [ -f "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2>/dev/null
}

case ${1-} in
  install)
    if [ -n "${2-}" ] && ! mountpoint -q /mnt/driqa; then
      sudo apt-get update -qq
      sudo apt-get install -y -qq nfs-common
      sudo mkdir -p /mnt/driqa
      sudo mount -t nfs -o hard "$2" /mnt/driqa
      sudo chmod a+rwx /mnt/driqa
    fi
    # The VM's own Python is older than what driqa wants; uv brings one, without root.
    python3 -m pip install --user --quiet --upgrade uv
    python3 -m uv venv --quiet --allow-existing --python 3.11 "$environment"
    python3 -m uv pip install --quiet --python "$environment/bin/python" "${source}[tpu]"
    ;;
  start)
    shift
    if running; then echo "a training runs here already" >&2; exit 1; fi
    mkdir -p "$state"
    rm -f "$state/code"
    cd "$source"
    # A session of its own, so that the training outlives the connection; its shell stays to write down how it ended.
    # shellcheck disable=SC2016
    PATH=$environment/bin:$PATH setsid bash -c 'trap : TERM; code=0; "$@" || code=$?; echo "$code" >"$0"' \
      "$state/code" driqa train "$@" >>"$state/log" 2>&1 </dev/null &
    echo "$!" >"$state/pid"
    ;;
  state)
    if running; then echo running; elif [ -f "$state/code" ]; then cat "$state/code"; else echo none; fi
    ;;
  stop)
    # The whole group, in which the shell alone takes no notice.
    if running; then kill -TERM -- "-$(cat "$state/pid")"; fi
    ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
