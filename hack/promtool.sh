#!/usr/bin/env bash
# promtool.sh ARGUMENT...: Prometheus' promtool in the version pinned in hack/promtool, built into the cache the first time
# (three minutes on two cores).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

module=$REPO/hack/promtool
tool=$CACHE/tools/promtool-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c 1-12)

mkdir -p "$CACHE/tools"
# Several tests may ask for it at the same time.
exec 9>"$tool.lock"
flock 9
if [ ! -x "$tool" ]; then
  needs_go "$module/go.mod"
  with_heartbeat 'Building promtool, once' "$tool.log" env CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
    go -C "$module" build -trimpath -ldflags '-s -w' -o "$tool.new" github.com/prometheus/prometheus/cmd/promtool
  mv "$tool.new" "$tool"
  rm -f "$tool.log"
fi
exec 9>&-
cd "$REPO"
exec "$tool" "$@"
