#!/usr/bin/env bash
# helm.sh ARGUMENT...: helm in the version pinned in hack/helm, built into the cache the first time (a minute on two cores).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

module=$REPO/hack/helm
tool=$CACHE/tools/helm-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c 1-12)

mkdir -p "$CACHE/tools"
exec 9>"$tool.lock"
flock 9
if [ ! -x "$tool" ]; then
  needs_go "$module/go.mod"
  with_heartbeat 'Building helm, once' "$tool.log" env CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
    go -C "$module" build -trimpath -ldflags '-s -w' -o "$tool.new" helm.sh/helm/v4/cmd/helm >&2
  mv "$tool.new" "$tool"
  rm -f "$tool.log"
fi
exec 9>&-
exec "$tool" "$@"
