# shellcheck shell=bash
# Sourced by the other scripts. `run COMMAND...` prints the command as a shell would take it, and runs it unless
# `dry_run` is 1; `quoted WORD...` prints words so that a shell reads the same words again.

dry_run=0

quoted() {
  local word separator=''
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) printf "%s'%s'" "$separator" "${word//\'/\'\\\'\'}" ;;
      *) printf '%s%s' "$separator" "$word" ;;
    esac
    separator=' '
  done
  printf '\n'
}

run() {
  if [ "$dry_run" = 1 ]; then
    quoted "$@"
  else
    quoted "$@" | sed 's/^/+ /' >&2
    "$@"
  fi
}

# The comment at the top of the calling script is its help.
help_text() {
  sed -n '2,/^[^#]/{/^[^#]/d;s/^# \{0,1\}//;p;}' "$0"
}

# A wrong command line: one line, and the exit code of every command of this package for it.
refuse() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}
