#!/usr/bin/env bash
# Train once for each line of a file of overrides, each in a work folder of its own, named by its overrides.
#
#   launch/sweep.sh [options] FILE -- --config F.py --workdir D [--config.KEY=VALUE ...]
#
# FILE:  # comments and empty lines do not count; quotes are as in a shell
#        --config.optim.lr=1e-3
#        --config.optim.lr=5e-4 --config.optim.groups="(('quality_encoder/*', 0.1),)"
#
#   --only N        the N-th run alone, counted from 1
#   --array-task    the run of this job's number in its Slurm array; see launch/slurm.sh --sweep
#   --count         print how many runs there are
#   --dry-run       print the commands, run nothing
#
# The runs lie in D, with what they printed in D/NAME.log. What was finished by the same command is not run again, so the
# same sweep goes on where it was stopped, or tries again what failed. A run that fails does not stop the others.
# exit codes: 0 all finished, 1 some failed, 2 usage error, 130 Ctrl-C, 143 SIGTERM (what runs saves first)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dry_run.sh"

only='' count=0 alone=0 file=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --count) count=1 ;;
    --only) only=${2-} alone=1; [ $# -gt 1 ] || refuse "--only lacks its number"; shift ;;
    --array-task) only=${SLURM_ARRAY_TASK_ID-} alone=1; [ -n "$only" ] || refuse "--array-task: SLURM_ARRAY_TASK_ID is not set" ;;
    --help | -h) help_text; exit 0 ;;
    -*) refuse "$1: no such option; the training's own come after --" ;;
    *) [ -z "$file" ] || refuse "more than one file: $file, $1"; file=$1 ;;
  esac
  shift
done
[ -n "$file" ] || refuse "a file of overrides is missing"
[ -r "$file" ] || refuse "$file: cannot be read"
[ $# -gt 1 ] || refuse "after -- come the arguments of driqa train: --config F.py --workdir D"
shift

root='' common=()
while [ $# -gt 0 ]; do
  case $1 in
    --workdir) [ $# -gt 1 ] || refuse "--workdir lacks its folder"; root=$2; shift ;;
    --workdir=*) root=${1#--workdir=} ;;
    *) common+=("$1") ;;
  esac
  shift
done
[ -n "$root" ] || refuse "--workdir D is missing among the arguments of driqa train"

# The words of a line, quotes taken as a shell takes them, nothing expanded; one a line.
words_of() {
  printf '%s\n' "$1" | xargs printf '%s\n' 2>/dev/null
}

# A folder's name from overrides: config. left out, commas between; what a file system or a shell may take amiss becomes
# _, and then, or where it is long, a checksum keeps names apart.
name_of() {
  local joined plain
  joined=$(printf '%s,' "${@#--config.}")
  joined=${joined%,}
  plain=${joined//[!A-Za-z0-9._=,+-]/_}
  if [ "$plain" != "$joined" ] || [ ${#plain} -gt 120 ]; then
    plain=${plain:0:100}-$(printf '%s' "$joined" | cksum | cut -d ' ' -f 1)
  fi
  printf '%s\n' "$plain"
}

# ---- all lines are read before anything runs
lines=() names=() number=0
while IFS= read -r line || [ -n "$line" ]; do
  number=$((number + 1))
  line=${line#"${line%%[![:space:]]*}"}
  case $line in '' | '#'*) continue ;; esac
  found=$(words_of "$line") || refuse "$file, line $number: a quote is not closed"
  words=()
  while IFS= read -r word; do
    case $word in
      --config.?*=*) words+=("$word") ;;
      *) refuse "$file, line $number: '$word' is not --config.KEY=VALUE" ;;
    esac
  done <<<"$found"
  name=$(name_of "${words[@]}")
  case $'\n'$(printf '%s\n' ${names[@]+"${names[@]}"})$'\n' in
    *$'\n'"$name"$'\n'*) refuse "$file, line $number: the same run as an earlier line" ;;
  esac
  lines+=("$line")
  names+=("$name")
done <"$file"
total=${#lines[@]}
[ "$total" -gt 0 ] || refuse "$file: no line with overrides"
if [ "$count" = 1 ]; then echo "$total"; exit 0; fi
first=1 last=$total
if [ "$alone" = 1 ]; then
  case $only in '' | *[!0-9]*) refuse "--only $only: not a number" ;; esac
  if [ "$only" -lt 1 ] || [ "$only" -gt "$total" ]; then refuse "--only $only: $file has runs 1 to $total"; fi
  first=$only last=$only
fi

# ---- one after another
signalled=0 stop=0 pid=
trap 'signalled=1 stop=143; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true' TERM
trap 'signalled=1 stop=130; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true' INT
failed=0
for ((i = first; i <= last; i++)); do
  workdir=$root/${names[i - 1]}
  words=()
  while IFS= read -r word; do words+=("$word"); done < <(words_of "${lines[i - 1]}")
  command=(driqa train ${common[@]+"${common[@]}"} "${words[@]}" --workdir "$workdir")
  if [ "$dry_run" = 1 ]; then run "${command[@]}"; continue; fi

  finished=$workdir/sweep_finished
  if [ -f "$finished" ] && [ "$(cat "$finished")" = "$(quoted "${command[@]}")" ]; then
    echo "$i/$total already finished  $workdir"
    continue
  fi
  mkdir -p "$root"
  echo "$i/$total begins            $workdir"
  # In a job of its own the job's log is the run's.
  if [ "$alone" = 1 ]; then "${command[@]}" & else "${command[@]}" >>"$workdir.log" 2>&1 & fi
  pid=$!
  while :; do
    signalled=0 code=0
    wait "$pid" || code=$?
    [ "$signalled" = 1 ] || break  # a signal ends `wait`, not what it waits for
  done
  pid=
  if [ "$stop" != 0 ]; then
    [ "$alone" = 0 ] || exit "$code"
    echo "$i/$total stopped           $workdir; the same command goes on" >&2
    exit "$stop"
  elif [ "$code" = 0 ]; then
    quoted "${command[@]}" >"$finished"
    echo "$i/$total finished          $workdir"
  else
    failed=$((failed + 1))
    last_code=$code
    echo "$i/$total failed, code $code  $workdir$([ "$alone" = 1 ] || echo ".log: $(tail -n 1 "$workdir.log")")" >&2
  fi
done
if [ "$dry_run" = 1 ]; then exit 0; fi
# A run alone ends as it ended: a job that is told to save is queued again by its code, 143.
if [ "$alone" = 1 ] && [ "$failed" = 1 ]; then exit "$last_code"; fi
echo "$((last - first + 1 - failed)) of $((last - first + 1)) finished, $failed failed"
[ "$failed" = 0 ]
