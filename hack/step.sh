#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs one step of `make test` under a header and says how long it took.
# step.sh --summary: prints the steps so far and their times. STEP_TIMES is the file that keeps them.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [ "$1" = --summary ]; then
  awk -F '\t' '{ printf "%-24s %3d min %02d s\n", $1, $2 / 60, $2 % 60; total += $2 }
    END { printf "%-24s %3d min %02d s\n", "total", total / 60, total % 60 }' "$STEP_TIMES"
  exit
fi
name=$1
shift
began=$SECONDS
say "==> $name: $*"
if "$@"; then
  say "--- $name: ok, $(elapsed "$began")"
  [ -z "${STEP_TIMES:-}" ] || printf '%s\t%d\n' "$name" $((SECONDS - began)) >>"$STEP_TIMES"
else
  status=$?
  say "--- $name: FAILED after $(elapsed "$began")"
  exit "$status"
fi
