#!/usr/bin/env bash
# glua.sh FILE: runs a Lua script in the interpreter that Argo CD runs health checks in, in the version pinned in hack/glua, built into
# the cache the first time (a few seconds).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

go_tool glua github.com/yuin/gopher-lua/cmd/glua "$@"
