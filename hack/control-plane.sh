#!/usr/bin/env bash
# A private Kubernetes control plane for tests, benchmarks and the demo: etcd and kube-apiserver, nothing else.
#
#   control-plane.sh build [cluster]      build the pinned binaries into the cache; nothing to do when up to date. With `cluster`
#                                         also those of hack/cluster.sh
#   control-plane.sh bin-dir              print the directory that holds etcd, kube-apiserver and kubectl
#   control-plane.sh run [--audit] [--keep] DIR [-- APISERVER_FLAG...]
#                                         start one with its state in DIR and stay in the foreground
#
# `run` prints the line "ready DIR/kubeconfig" once the API server serves, and stops everything and removes what it made when its
# standard input is closed or on SIGTERM, SIGINT, SIGHUP. A process that starts it through a pipe therefore leaves nothing behind,
# even when it is killed. Any number run side by side. In DIR: kubeconfig, etcd.pid, apiserver.pid, etcd.log, apiserver.log.
#   --audit   every request as one JSON line in DIR/audit.log
#   --keep    leave the state and the logs in DIR at the end
# Commands, one a line on standard input, each answered by one line on standard output:
#   stop etcd|apiserver    ask it to end and wait          -> "stopped etcd"
#   kill etcd|apiserver    end it at once, as a crash does -> "stopped etcd"
#   start etcd|apiserver   start it again, same address    -> "started etcd"
# A server that ends without having been told to ends everything, with the tail of its log.
#
# Environment: KUBEBUILDER_ASSETS, a directory with etcd, kube-apiserver and kubectl, is used instead of building (not by hack/cluster.sh);
# VNCPASSWORD_CACHE is the directory of the cache (default: .cache in the repository).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Part of the stamp: raise it when the way of building changes.
BUILD_VERSION=1
MODULE=$REPO/hack/controlplane
TOOLS=(etcd kube-apiserver kubectl)
CLUSTER_TOOLS=(kube-controller-manager kube-scheduler kubelet kube-proxy)
# A slow, loaded machine needs a while; a healthy one about three seconds.
READY_TIMEOUT_SECONDS=90
PORT_ATTEMPTS=10

# ---------------------------------------------------------------------------------------------------------------- binaries

bin_dir() {
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then say "$KUBEBUILDER_ASSETS"; else say "$CACHE/controlplane"; fi
}

stamp() {
  { say "$BUILD_VERSION"; cat "$MODULE/go.mod" "$MODULE/go.sum"; } | sha256sum | cut -d ' ' -f 1
}

# up_to_date TOOL...: they are there, in the pinned versions.
up_to_date() {
  local dir tool
  dir=$(bin_dir)
  for tool; do
    [ -x "$dir/$tool" ] && [ "$(cat "$dir/$tool.stamp" 2>/dev/null)" = "$(stamp)" ] || return 1
  done
}

# module_version PATH: the version of a module as go.mod pins it.
module_version() { awk -v path="$1" '$1 == path && NF > 1 { print $2; exit }' "$MODULE/go.mod"; }

check_assets() {
  local tool
  for tool; do
    [ -x "$KUBEBUILDER_ASSETS/$tool" ] ||
      die "KUBEBUILDER_ASSETS is set, but '$KUBEBUILDER_ASSETS/$tool' is missing: unset it to build the pinned versions"
  done
}

# package TOOL: where its source is.
package() {
  case $1 in
  etcd) say go.etcd.io/etcd/server/v3 ;;
  *) say "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# build TOOL...
build() {
  local dir tool kubernetes ldflags
  dir=$(bin_dir)
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    check_assets "$@"
    return
  fi
  up_to_date "$@" && return
  needs_go "$MODULE/go.mod"
  mkdir -p "$dir"
  # One build at a time; whoever waited finds the work done.
  exec 9>"$dir/lock"
  if ! flock --nonblock 9; then
    say "another build of the control plane is running, waiting for it ..."
    flock 9
  fi

  trap 'exit 143' TERM HUP
  trap 'exit 130' INT
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS='-buildvcs=false -mod=readonly -trimpath' GOWORK=off
  kubernetes=$(module_version k8s.io/kubernetes)
  # The API server derives its feature gates from the version: without it, it takes itself for v0.0.0.
  ldflags="-s -w"
  ldflags+=" -X k8s.io/component-base/version.gitVersion=$kubernetes"
  ldflags+=" -X k8s.io/component-base/version.gitMajor=$(cut -d . -f 1 <<<"${kubernetes#v}")"
  ldflags+=" -X k8s.io/component-base/version.gitMinor=$(cut -d . -f 2 <<<"$kubernetes")"
  ldflags+=" -X k8s.io/component-base/version.gitTreeState=clean"
  say "Building Kubernetes $kubernetes and etcd $(module_version go.etcd.io/etcd/server/v3), once: $*" \
    "(a control plane takes about five minutes on two cores)"
  rm -rf "$dir/new"
  mkdir "$dir/new"
  cd "$MODULE"
  with_heartbeat "Fetching Go modules" "$dir/download.log" go mod download
  for tool; do
    up_to_date "$tool" && continue
    with_heartbeat "Compiling $tool" "$dir/$tool-build.log" go build -v -ldflags "$ldflags" -o "$dir/new/$tool" "$(package "$tool")"
    # Renamed, not copied: a control plane that runs keeps the file it was started from.
    mv -f "$dir/new/$tool" "$dir/$tool"
    stamp >"$dir/$tool.stamp"
  done
  rm -rf "$dir/new"
  exec 9>&-
}

# --------------------------------------------------------------------------------------------------------------------- run

# What `run` knows. STATE is absolute; PORT is the API server's.
STATE=
PORT=
BIN=
AUDIT=no
KEEP=no
MADE_STATE=no
EXTRA_FLAGS=()
# Lines that came in while something else was waited for, and the beginning of one that is still to end.
QUEUE=()
BEGUN=
# Server -> pid. A server that was told to stop has none.
declare -A PID=()
BUILDER=

# nap SECONDS: waits, but not longer than until a line comes in, which is queued. Ends the script when standard input is closed.
nap() {
  local line status=0
  IFS= read -r -t "$1" line || status=$?
  if ((status == 0)); then
    QUEUE+=("$BEGUN$line")
    BEGUN=
  elif ((status <= 128)); then
    exit 0
  else
    # The time was up in the middle of a line: read gives what it has.
    BEGUN+=$line
  fi
}

alive() { [ -n "${PID[$1]:-}" ] && kill -0 "${PID[$1]}" 2>/dev/null; }

# gave_up SERVER: shows why SERVER ended and leaves.
gave_up() {
  warn "$1 ended or did not come up; the last lines of its log:"
  tail -n 25 "$STATE/$1.log" | cut -c 1-400 | sed 's/^/  /' >&2
  exit 1
}

certificates() {
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes) pki=$STATE/pki log=$STATE/pki/openssl.log
  mkdir "$pki"
  {
    openssl req -x509 "${key[@]}" -keyout "$pki/ca.key" -out "$pki/ca.crt" -days 365 -subj /CN=control-plane-ca \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign &&
      openssl req -x509 "${key[@]}" -keyout "$pki/apiserver.key" -out "$pki/apiserver.crt" -days 365 -subj /CN=kube-apiserver \
        -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -addext extendedKeyUsage=serverAuth -addext basicConstraints=CA:FALSE \
        -addext 'subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1' &&
      openssl req -x509 "${key[@]}" -keyout "$pki/admin.key" -out "$pki/admin.crt" -days 365 -subj /O=system:masters/CN=admin \
        -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -addext extendedKeyUsage=clientAuth -addext basicConstraints=CA:FALSE &&
      openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-account.key"
  } >"$log" 2>&1 || {
    cat "$log" >&2
    die "openssl could not make the certificates (OpenSSL 3 is needed: apt-get install openssl)"
  }
}

# The kubeconfig holds everything itself, so it can be copied elsewhere.
kubeconfig() {
  local pki=$STATE/pki
  cat >"$STATE/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: control-plane
contexts: [{name: control-plane, context: {cluster: control-plane, user: admin}}]
clusters:
- name: control-plane
  cluster: {server: "https://127.0.0.1:$PORT", certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")}
users:
- name: admin
  user: {client-certificate-data: $(base64 -w 0 "$pki/admin.crt"), client-key-data: $(base64 -w 0 "$pki/admin.key")}
YAML
}

kubectl() { "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" --cache-dir "$STATE/kubectl-cache" --request-timeout=5s "$@" </dev/null; }

# launch SERVER COMMAND...: starts it with DIR as its working directory, which keeps the paths of the sockets short.
launch() {
  local server=$1
  shift
  # The subshell becomes the server: the pid is the server's own.
  (
    cd "$STATE"
    exec 3>&- 9>&-
    guarded "$@" </dev/null >>"$server.log" 2>&1
  ) &
  PID[$server]=$!
  say "$!" >"$STATE/$server.pid"
  # Else bash reports on standard error how it ended.
  disown "$!"
}

# Unix sockets in DIR, which nobody else may enter: no port to find, and no need for certificates.
launch_etcd() {
  rm -f "$STATE/etcd.sock" "$STATE/etcd-peer.sock"
  # --unsafe-no-fsync: a control plane that lives for minutes need not survive a power failure.
  launch etcd "$BIN/etcd" --name=etcd --data-dir=etcd-data --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=unix://etcd.sock --advertise-client-urls=unix://etcd.sock \
    --listen-peer-urls=unix://etcd-peer.sock --initial-advertise-peer-urls=unix://etcd-peer.sock \
    --initial-cluster=etcd=unix://etcd-peer.sock --quota-backend-bytes=$((8 << 30)) --enable-grpc-gateway=false
}

launch_apiserver() {
  local flags=(
    --etcd-servers=unix://etcd.sock
    --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="$PORT"
    # A loopback address is not allowed in the Endpoints of the kubernetes service, and nothing here uses that service.
    --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/24
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt
    --service-account-issuer=https://kubernetes.default.svc
    --service-account-key-file=pki/service-account.key --service-account-signing-key-file=pki/service-account.key
    --authorization-mode=RBAC
    # Without a controller manager nobody makes the ServiceAccounts that this plugin asks for.
    --disable-admission-plugins=ServiceAccount
    --event-ttl=1h
    # The limits of a large cluster, so that a benchmark measures the operator and not a queue.
    --max-requests-inflight=3000 --max-mutating-requests-inflight=1500
  )
  if [ "$AUDIT" = yes ]; then
    cat >"$STATE/audit-policy.yaml" <<YAML
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
YAML
    flags+=(--audit-policy-file=audit-policy.yaml --audit-log-path=audit.log)
  fi
  launch apiserver "$BIN/kube-apiserver" "${flags[@]}" ${EXTRA_FLAGS[@]+"${EXTRA_FLAGS[@]}"}
}

# wait_for SERVER: until SERVER serves. Returns 1 if it ended instead, 2 if it took too long.
wait_for() {
  local began=$SECONDS
  until serves "$1"; do
    alive "$1" || return 1
    ((SECONDS - began < READY_TIMEOUT_SECONDS)) || return 2
    nap 0.1
  done
}

serves() {
  case $1 in
  etcd) [ -S "$STATE/etcd.sock" ] ;;
  # The namespaces come a moment after /readyz, and whoever uses a cluster expects them.
  apiserver) listening "$PORT" && kubectl get --raw=/readyz >/dev/null 2>&1 && kubectl get namespace default kube-system >/dev/null 2>&1 ;;
  esac
}

# start_apiserver_on_a_free_port: another process may take the port between the look and the bind; then another one is tried.
start_apiserver_on_a_free_port() {
  local attempt
  for ((attempt = 1; attempt <= PORT_ATTEMPTS; attempt++)); do
    PORT=$(free_port)
    kubeconfig
    launch_apiserver
    wait_for apiserver && return
    alive apiserver && gave_up apiserver
    grep -q 'address already in use' "$STATE/apiserver.log" || gave_up apiserver
    mv "$STATE/apiserver.log" "$STATE/apiserver.log.port-taken"
  done
  die "no free port for the API server after $PORT_ATTEMPTS attempts"
}

# end SIGNAL SERVER: sends the signal, waits for the end (a quarter of a minute, then by force) and forgets the process.
end() {
  local pid=${PID[$2]:-} began=$SECONDS
  [ -n "$pid" ] || return 0
  kill -s "$1" "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS - began < 15)) || kill -s KILL "$pid" 2>/dev/null || true
    sleep 0.02
  done
  unset "PID[$2]"
  rm -f "$STATE/$2.pid"
}

clean_up() {
  local status=$?
  # A child that a signal reaches before it has become another program is still a copy of this script.
  [ "$BASHPID" = $$ ] || exit "$status"
  trap '' TERM INT HUP
  trap - EXIT
  if [ -n "$BUILDER" ]; then kill "$BUILDER" 2>/dev/null || true; fi
  # By force: nothing of the state is kept, so there is nothing to put in order.
  end KILL apiserver
  end KILL etcd
  if [ "$KEEP" = no ] && [ -n "$STATE" ]; then
    rm -rf "$STATE"/{kubeconfig,kubectl-cache,etcd-data,etcd.sock,etcd-peer.sock,pki,audit-policy.yaml,audit.log,etcd.log,apiserver.log,apiserver.log.port-taken}
    if [ "$MADE_STATE" = yes ]; then rmdir "$STATE" 2>/dev/null || true; fi
  fi
  exit "$status"
}

# obey LINE: carries out one command from standard input.
obey() {
  local verb server rest
  read -r verb server rest <<<"$1" || true
  case "$verb $server$rest" in
  'stop etcd' | 'stop apiserver') end TERM "$server" && say "stopped $server" ;;
  'kill etcd' | 'kill apiserver') end KILL "$server" && say "stopped $server" ;;
  'start etcd' | 'start apiserver')
    if ! alive "$server"; then
      "launch_$server"
      wait_for "$server" || gave_up "$server"
    fi
    say "started $server"
    ;;
  ' ') ;;
  *)
    warn "not understood: '$1' (stop, kill or start, then etcd or apiserver)"
    say 'not understood'
    ;;
  esac
}

run() {
  local server
  while [ $# -gt 0 ]; do
    case $1 in
    --audit) AUDIT=yes ;;
    --keep) KEEP=yes ;;
    --)
      shift
      EXTRA_FLAGS=("$@")
      break
      ;;
    -*) usage "unknown option '$1'" ;;
    *)
      [ -z "$STATE" ] || usage "one DIR only"
      STATE=$1
      ;;
    esac
    shift
  done
  [ -n "$STATE" ] || usage "run needs a DIR"
  need openssl 'apt-get install openssl'
  [ -d "$STATE" ] || { mkdir -p "$STATE" && MADE_STATE=yes; }
  STATE=$(cd "$STATE" && pwd -P)
  [ -z "$(ls -A "$STATE")" ] || { STATE= && die "the state directory must be empty or new"; }
  chmod 700 "$STATE"

  trap clean_up EXIT
  trap 'exit 0' TERM HUP
  trap 'exit 130' INT

  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    check_assets "${TOOLS[@]}"
  elif ! up_to_date "${TOOLS[@]}"; then
    # Its messages go to standard error: on standard output the reader waits for the line "ready".
    "${BASH_SOURCE[0]}" build >&2 </dev/null &
    BUILDER=$!
    while kill -0 "$BUILDER" 2>/dev/null; do nap 0.2; done
    wait "$BUILDER" || exit 1
    BUILDER=
  fi
  BIN=$(cd "$(bin_dir)" && pwd -P)

  launch_etcd
  certificates
  wait_for etcd || gave_up etcd
  start_apiserver_on_a_free_port
  say "ready $STATE/kubeconfig"

  while :; do
    while [ ${#QUEUE[@]} -gt 0 ]; do
      obey "${QUEUE[0]}"
      QUEUE=("${QUEUE[@]:1}")
    done
    for server in "${!PID[@]}"; do
      alive "$server" || gave_up "$server"
    done
    nap 1
  done
}

usage() {
  [ $# -eq 0 ] || warn "$1"
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

case ${1:-} in
build)
  [ "${2:-}" != cluster ] || TOOLS+=("${CLUSTER_TOOLS[@]}")
  build "${TOOLS[@]}"
  ;;
bin-dir) bin_dir ;;
run)
  shift
  run "$@"
  ;;
*) usage ;;
esac
