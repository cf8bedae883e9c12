#!/usr/bin/env bash
# krew.sh ARGUMENT...: krew, which installs plugins of kubectl, in the version pinned in hack/krew, built into the cache the first time.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

go_tool krew sigs.k8s.io/krew/cmd/krew "$@"
