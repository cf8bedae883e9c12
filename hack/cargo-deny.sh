#!/usr/bin/env bash
# cargo-deny.sh ARGUMENT...: cargo-deny in the version pinned here, built into the cache the first time (two minutes on two cores).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=0.20.2
root=$CACHE/tools/cargo-deny-$VERSION

if [ ! -x "$root/bin/cargo-deny" ]; then
  need cargo 'install Rust by rustup'
  mkdir -p "$root"
  # It runs for two seconds: optimizing it would take longer than it could ever save.
  export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
  with_heartbeat "Building cargo-deny $VERSION, once" "$root/build.log" \
    cargo install cargo-deny --version "$VERSION" --locked --no-track --root "$root" --target-dir "$root/target"
  rm -rf "$root/target"
fi
cd "$REPO"
exec "$root/bin/cargo-deny" "$@"
