#!/usr/bin/env bash
# promtool.sh ARGUMENT...: Prometheus' promtool in the version pinned in hack/promtool, built into the cache the first time
# (three minutes on two cores). Files are named from the repository's root.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
go_tool promtool github.com/prometheus/prometheus/cmd/promtool "$@"
