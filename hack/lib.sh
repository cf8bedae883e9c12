# shellcheck shell=bash
# What the scripts of this directory share: messages, the cache's place, checks for tools. Sourced, not run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# shellcheck disable=SC2034 # for the scripts that source this
# Everything that is built or fetched once and kept lives here; removing it is always safe.
CACHE=$(realpath -m "${VNCPASSWORD_CACHE:-$REPO/.cache}")

say() { printf '%s\n' "$*"; }

warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  warn "$@"
  exit 1
}

# elapsed SINCE: the time since $SECONDS was SINCE, for people ("8 s", "2 min 05 s").
elapsed() {
  local s=$((SECONDS - $1))
  if ((s < 60)); then printf '%d s' "$s"; else printf '%d min %02d s' $((s / 60)) $((s % 60)); fi
}

# need COMMAND HINT: stops with the remedy if COMMAND is not on the PATH.
need() { command -v "$1" >/dev/null || die "'$1' was not found: $2"; }

# needs_go GO_MOD: Go must be there, and be at least what the module file asks for.
needs_go() {
  local have want
  need go 'install Go (version in hack/controlplane/go.mod or newer) and put it on the PATH'
  want=$(awk '$1 == "go" { print $2 }' "$1")
  have=$(GOTOOLCHAIN=local go env GOVERSION)
  have=${have#go}
  have=${have%% *}
  [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
    die "Go $have is too old: Go $want or newer is needed"
}

# with_heartbeat WHAT LOG COMMAND...: runs COMMAND with its output in LOG and says every 15 seconds that it is still at it.
with_heartbeat() {
  local what=$1 log=$2 began=$SECONDS beat=$SECONDS pid
  shift 2
  say "$what ..."
  # A session of its own, so that one signal ends the compilers with it.
  setsid "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # shellcheck disable=SC2064 # the pid of now is meant
  trap "kill -TERM -- -$pid 2>/dev/null || true" EXIT
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - beat >= 15)); then
      beat=$SECONDS
      say "  still at it after $(elapsed "$began"), $(wc -l <"$log") lines of output so far, the last: $(tail -n 1 "$log" | cut -c 1-100)"
    fi
  done
  trap - EXIT
  if ! wait "$pid"; then
    tail -n 30 "$log" >&2
    die "$what: failed after $(elapsed "$began") (the whole output: $log)"
  fi
  say "  done in $(elapsed "$began")"
}

# guarded COMMAND...: becomes COMMAND, in a session of its own (Ctrl-C is for the script alone), and killed by the kernel should
# the script itself be killed.
guarded() {
  if setpriv --pdeathsig KILL true 2>/dev/null; then
    exec setsid setpriv --pdeathsig KILL "$@"
  fi
  exec setsid "$@"
}

# listening PORT: something accepts connections there.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range from which the kernel takes the ports of outgoing connections, so that none of those is in the way.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    listening "$port" || break
  done
  say "$port"
}
