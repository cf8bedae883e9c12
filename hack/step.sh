#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs one step of `make test` under a header and says how long it took.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
name=$1
shift
began=$SECONDS
say "==> $name: $*"
if "$@"; then
  say "--- $name: ok, $(elapsed "$began")"
else
  status=$?
  say "--- $name: FAILED after $(elapsed "$began")"
  exit "$status"
fi
