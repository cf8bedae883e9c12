#!/usr/bin/env bash
# Usage: hack/steady.sh TIMES CARGO_TEST_ARGUMENT...
#
# Runs tests so many times beside two processes that keep the cores busy, and stops at the first failure.
# For example: hack/steady.sh 20 --test crash waves
set -euo pipefail
cd "$(dirname "$0")/.."

times=$1
shift
cargo test --no-run "$@"

busy=()
trap '[ "${#busy[@]}" = 0 ] || kill "${busy[@]}"' EXIT
for _ in 1 2; do
  while :; do :; done &
  busy+=($!)
done

for ((round = 1; round <= times; round++)); do
  echo "steady: round $round of $times"
  cargo test "$@"
done
