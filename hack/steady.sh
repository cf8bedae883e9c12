#!/usr/bin/env bash
# steady.sh TIMES CARGO_TEST_ARGUMENT...: runs tests TIMES times while two loops keep the cores busy; stops at a failure.
# For example: hack/steady.sh 20 --test crash waves
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=lib.sh
. hack/lib.sh

[ $# -ge 2 ] || { echo "usage: hack/steady.sh TIMES CARGO_TEST_ARGUMENT..." >&2; exit 2; }
times=$1
shift
cargo test --locked --no-run "$@"

busy=()
trap '[ "${#busy[@]}" = 0 ] || kill "${busy[@]}"' EXIT
for _ in 1 2; do
  while :; do :; done &
  busy+=($!)
done

for ((round = 1; round <= times; round++)); do
  say "==> round $round of $times"
  cargo test --locked "$@"
done
