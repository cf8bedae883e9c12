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

# go_tool NAME PACKAGE ARGUMENT...: becomes a program of the Go module hack/NAME, built into the cache the first time. Several may ask
# for it at the same time.
go_tool() {
  local name=$1 package=$2 module=$REPO/hack/$1 tool
  shift 2
  tool=$CACHE/tools/$name-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c 1-12)
  mkdir -p "$CACHE/tools"
  exec 9>"$tool.lock"
  flock 9
  if [ ! -x "$tool" ]; then
    needs_go "$module/go.mod"
    # Standard output is the program's.
    with_heartbeat "Building $name, once" "$tool.log" env CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local \
      go -C "$module" build -v -trimpath -ldflags '-s -w' -o "$tool.new" "$package" >&2
    mv "$tool.new" "$tool"
    rm -f "$tool.log"
  fi
  exec 9>&-
  exec "$tool" "$@"
}

# architecture: this machine's, as Go and container images call it.
architecture() {
  case $(uname -m) in
  x86_64) say amd64 ;;
  aarch64) say arm64 ;;
  *) die "nothing is packed on $(uname -m): x86_64 and aarch64 are known" ;;
  esac
}

# build_static: builds all programs as static binaries, and sets BINARIES to the directory that holds them.
build_static() {
  local host
  need cargo "rustup.rs installs it"
  host=$(rustc -vV | sed -n 's/^host: //p')
  # The flag for static linking must not reach build scripts: cargo keeps them apart where a target is named. Paths of this machine
  # stay out of the binaries. Compilers get a date that is always the same: with each commit's all C, and the whole program, would be
  # built anew.
  SOURCE_DATE_EPOCH=0 RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$REPO=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --release --locked --target "$host" --bins
  # shellcheck disable=SC2034 # for the scripts that source this
  BINARIES=${CARGO_TARGET_DIR:-$REPO/target}/$host/release
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
