#!/usr/bin/env bash
# glua.sh FILE: runs a Lua script in the interpreter that Argo CD runs health checks in, in the version pinned in hack/glua, built into
# the cache the first time (a few seconds).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

module=$REPO/hack/glua
tool=$CACHE/tools/glua-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c 1-12)

mkdir -p "$CACHE/tools"
exec 9>"$tool.lock"
flock 9
if [ ! -x "$tool" ]; then
  needs_go "$module/go.mod"
  # Standard output is the script's.
  with_heartbeat 'Building glua, once' "$tool.log" env CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
    go -C "$module" build -trimpath -ldflags '-s -w' -o "$tool.new" github.com/yuin/gopher-lua/cmd/glua >&2
  mv "$tool.new" "$tool"
  rm -f "$tool.log"
fi
exec 9>&-
exec "$tool" "$@"
