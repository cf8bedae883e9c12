#!/usr/bin/env bash
# A whole Kubernetes of one node, without a container engine: what hack/control-plane.sh has, controllers, scheduler, kubelet,
# kube-proxy and containerd, in namespaces of their own. For the end-to-end tests, and to try the chart by hand. Needs root.
#
#   cluster.sh build               build the pinned binaries into the cache; nothing to do when up to date
#   cluster.sh up                  start it
#   cluster.sh load IMAGE.tar...   import images (docker-archive or OCI)
#   cluster.sh in COMMAND...       run COMMAND inside: kubectl, helm or a test, with KUBECONFIG set
#   cluster.sh down                stop it and remove everything
#   cluster.sh run [--image IMAGE.tar]... COMMAND...
#                                  up, load, COMMAND inside, down: whatever happens, even when this script is killed
#
# Nothing in it can reach another machine. There are its own process, mount, network, host name and IPC namespaces, its state is in
# memory, and the kernel ends all of it with its first process: no process, mount, network device, firewall rule or file stays
# behind. Outside are only logs and certificates (.cache/cluster) and directories of control groups; `down` and `run` remove them.
#
# Also there: DNS (hack/cluster/dns.yaml says which names it knows), and the image localhost/tools:1 with busybox.
# A NetworkPolicy is enforced by the tests (tests/e2e/policy.rs), as no engine for that can be had here.
# Environment: CLUSTER, a name, for several side by side; VNCPASSWORD_CACHE as in hack/control-plane.sh.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CLUSTER=${CLUSTER:-cluster}
# Seen from outside and from inside.
STATE=$CACHE/$CLUSTER
LOGS=$STATE/logs
PKI=$STATE/pki
# The control groups of this very checkout.
GROUP=vncpassword-$(say "$STATE" | sha256sum | cut -c 1-8)
# Only inside, in memory. Short: it is the beginning of a socket's path, which may have 108 bytes.
RUN=/run/cluster
NODE=e2e-node
# kubelet takes no loopback address.
NODE_IP=10.244.255.1
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/24
APISERVER_IP=10.96.0.1
DNS_IP=10.96.0.10
TOOLS_IMAGE=localhost/tools:1
READY_TIMEOUT_SECONDS=120

# A kubelet belongs to its API server: all are of the pinned version, and other control planes are given without kubelets.
unset KUBEBUILDER_ASSETS
BIN=$("$REPO/hack/control-plane.sh" bin-dir)
PATH=$(realpath -m "$BIN"):/usr/local/sbin:/usr/sbin:/sbin:$PATH
export KUBECONFIG=$STATE/admin.kubeconfig

# ------------------------------------------------------------------------------------------------------- certificates, settings

# certificate NAME SUBJECT USAGE [SUBJECT_ALTERNATIVE_NAMES]
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/$1.key" -out "$PKI/$1.crt" -days 365 -subj "$2" \
    -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -addext "extendedKeyUsage=$3" -addext basicConstraints=CA:FALSE \
    ${4:+-addext "subjectAltName=$4"}
}

certificates() {
  mkdir "$PKI"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/ca.key" -out "$PKI/ca.crt" -days 365 \
      -subj /CN=cluster-ca -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign &&
      openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/service-account.key" &&
      certificate apiserver /CN=kube-apiserver serverAuth \
        "DNS:localhost,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$APISERVER_IP,IP:$NODE_IP" &&
      certificate kubelet-server "/O=system:nodes/CN=system:node:$NODE" serverAuth "DNS:$NODE,IP:$NODE_IP" &&
      certificate kubelet-client /O=system:masters/CN=kube-apiserver clientAuth &&
      certificate admin /O=system:masters/CN=admin clientAuth &&
      certificate controller-manager /CN=system:kube-controller-manager clientAuth &&
      certificate scheduler /CN=system:kube-scheduler clientAuth &&
      certificate kubelet "/O=system:nodes/CN=system:node:$NODE" clientAuth &&
      certificate proxy /CN=system:kube-proxy clientAuth
  } >"$PKI/openssl.log" 2>&1 || {
    cat "$PKI/openssl.log" >&2
    die "openssl could not make the certificates (OpenSSL 3 is needed: apt-get install openssl)"
  }
  local user
  for user in admin controller-manager scheduler kubelet proxy; do
    cat >"$STATE/$user.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: cluster
contexts: [{name: cluster, context: {cluster: cluster, user: $user}}]
clusters: [{name: cluster, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(base64 -w 0 "$PKI/ca.crt")}}]
users:
- name: $user
  user: {client-certificate-data: $(base64 -w 0 "$PKI/$user.crt"), client-key-data: $(base64 -w 0 "$PKI/$user.key")}
YAML
  done
}

settings() {
  mkdir "$STATE/cni" "$STATE/manifests"
  say "nameserver $DNS_IP" >"$STATE/resolv.conf"
  cat >"$STATE/cni/10-cluster.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
 "dataDir": "$RUN/ipam", "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  # restrict_oom_score_adj, and oomScoreAdj below: root without CAP_SYS_RESOURCE, as in many containers, cannot lower it.
  cat >"$STATE/containerd.toml" <<TOML
version = 2
root = "$RUN/containerd"
state = "$RUN/containerd-state"
# It would make directories in /opt.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "$RUN/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$TOOLS_IMAGE"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
TOML
  # Images are imported, so none may be collected: a full disk must not take them away.
  cat >"$STATE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
address: $NODE_IP
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
cgroupDriver: cgroupfs
cgroupRoot: /$GROUP
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
containerRuntimeEndpoint: unix://$RUN/containerd.sock
staticPodPath: $STATE/manifests
volumePluginDir: $RUN/volume-plugins
resolvConf: $STATE/resolv.conf
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
nodeStatusUpdateFrequency: 10s
syncFrequency: 10s
YAML
  cat >"$STATE/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NODE
bindAddress: $NODE_IP
oomScoreAdj: 0
clientConnection: {kubeconfig: $STATE/proxy.kubeconfig}
clusterCIDR: $POD_CIDR
conntrack: {maxPerCore: 0, min: 0}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
YAML
}

# tools_image FILE: busybox and dnsmasq of this machine, with their libraries. Sandboxes run it as well.
tools_image() {
  local root=$STATE/image/root out=$STATE/image/archive busybox dnsmasq applet library
  busybox=$(command -v busybox) dnsmasq=$(command -v dnsmasq)
  mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/run" "$out"
  chmod 1777 "$root/tmp"
  say 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
  say 'root:x:0:' >"$root/etc/group"
  install "$busybox" "$root/bin/busybox"
  "$busybox" --list | while read -r applet; do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
  install "$dnsmasq" "$root/bin/dnsmasq"
  # A busybox that is static has none.
  { ldd "$dnsmasq" "$busybox" 2>/dev/null || true; } | sed -n 's/^[^/]*[[:blank:]]\(\/[^ :]*\) .*/\1/p' | sort -u |
    while read -r library; do install -D "$library" "$root$library"; done
  tar -C "$root" --owner=0 --group=0 -cf "$out/layer.tar" .
  say '{"architecture":"'"$(dpkg --print-architecture)"'","os":"linux","config":{"Cmd":["sleep","2147483647"],"Env":["PATH=/bin"]},' \
    '"rootfs":{"type":"layers","diff_ids":["sha256:'"$(sha256sum "$out/layer.tar" | cut -d ' ' -f 1)"'"]}}' >"$out/config.json"
  say '[{"Config":"config.json","RepoTags":["'"$TOOLS_IMAGE"'"],"Layers":["layer.tar"]}]' >"$out/manifest.json"
  tar -C "$out" -cf "$1" manifest.json config.json layer.tar
  rm -r "$STATE/image"
}

# -------------------------------------------------------------------------------------------------------------- control groups

CONTROLLERS=(cpu cpuacct cpuset memory devices freezer blkio pids systemd)

make_groups() {
  local controller file
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$GROUP"
    for controller in cpu cpuset io memory pids; do
      say "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
      say "+$controller" >"/sys/fs/cgroup/$GROUP/cgroup.subtree_control" || true
    done 2>/dev/null
    return
  fi
  for controller in "${CONTROLLERS[@]}"; do
    [ ! -d "/sys/fs/cgroup/$controller" ] || mkdir -p "/sys/fs/cgroup/$controller/$GROUP"
  done
  # Empty in a new group, and nothing can run there before they are filled.
  for file in cpuset.cpus cpuset.mems; do
    cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$GROUP/$file"
  done
}

groups() { find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$GROUP"; }

# The kernel needs a moment until a group whose processes were killed is empty.
remove_groups() {
  local attempt group
  for ((attempt = 0; attempt < 50; attempt++)); do
    for group in $(groups); do find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true; done
    [ -n "$(groups)" ] || return 0
    sleep 0.1
  done
  warn "control groups are left over: $(groups | tr '\n' ' ')"
}

# ---------------------------------------------------------------------------------------------------------------------- inside

# start NAME COMMAND...: in the background, with its log.
start() {
  local name=$1
  shift
  "$@" </dev/null >"$LOGS/$name.log" 2>&1 &
}

# The first process of the cluster's namespaces. With it, all of them end.
inside() {
  local i
  mount --make-rshared /
  # What containerd, CNI plugins and kubelet write to fixed places. All of the state is in memory.
  mount -t tmpfs -o mode=755 tmpfs /run
  mount -t tmpfs -o mode=755 tmpfs /var/lib
  mount -t tmpfs -o mode=755 tmpfs /var/log
  mkdir "$RUN"
  hostname "$NODE"
  ip link set lo up
  # A bridge without ports: not every kernel has dummy devices.
  ip link add node0 type bridge
  ip address add "$NODE_IP/32" dev node0
  ip link set node0 up
  # There is no default route, so that nothing can leave. Without this one, packets of the node to Services would be dropped before
  # kube-proxy could redirect them.
  ip route add "$SERVICE_CIDR" dev node0 src "$NODE_IP"
  sysctl -qw net.ipv4.ip_forward=1

  start etcd etcd --name=etcd --data-dir="$RUN/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=etcd=http://127.0.0.1:2380
  start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$NODE_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --client-ca-file="$PKI/ca.crt" --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/service-account.key" --service-account-signing-key-file="$PKI/service-account.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP --profiling=false
  for ((i = 0; i < READY_TIMEOUT_SECONDS * 10; i++)); do
    [ "$(curl -s --noproxy '*' --cacert "$PKI/ca.crt" https://127.0.0.1:6443/readyz)" != ok ] || break
    sleep 0.1
  done
  # Its default of 20 requests a second is a wait of several seconds at the start.
  start controller-manager kube-controller-manager --kubeconfig="$STATE/controller-manager.kubeconfig" \
    --kube-api-qps=500 --kube-api-burst=1000 --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/service-account.key" \
    --flex-volume-plugin-dir="$RUN/volume-plugins"
  start scheduler kube-scheduler --kubeconfig="$STATE/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false
  start containerd containerd --config "$STATE/containerd.toml"
  for ((i = 0; i < READY_TIMEOUT_SECONDS * 10; i++)); do
    ! ctr --address "$RUN/containerd.sock" version >/dev/null 2>&1 || break
    sleep 0.1
  done
  start proxy kube-proxy --config "$STATE/proxy.yaml"
  start kubelet kubelet --config "$STATE/kubelet.yaml" --kubeconfig "$STATE/kubelet.kubeconfig" --hostname-override "$NODE" --node-ip "$NODE_IP"
  # What a first process owes its orphans.
  while :; do wait -n 2>/dev/null || sleep 0.5; done
}

# --------------------------------------------------------------------------------------------------------------------- outside

# first_process: the pid of the cluster's first process; fails where it does not run. Its start time tells it from another process
# that has got the same pid.
first_process() {
  local pid started
  read -r pid started 2>/dev/null <"$STATE/first-process" || return 1
  [ -n "$started" ] && [ "$(started_at "$pid")" = "$started" ] && say "$pid"
}

started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

enter() {
  local pid
  pid=$(first_process) || die "no cluster runs here: hack/cluster.sh up"
  nsenter --target "$pid" --mount --net --pid --uts --ipc --wdns="$PWD" -- "$@"
}

check_place() {
  [ "$(id -u)" = 0 ] || die "a cluster needs root: namespaces, mounts and control groups"
  # These directories are hidden inside.
  case $REPO/ in
  /run/* | /var/lib/* | /var/log/*) die "a checkout in /run, /var/lib or /var/log cannot be used: move it" ;;
  esac
  case $STATE/ in
  /run/* | /var/lib/* | /var/log/*) die "VNCPASSWORD_CACHE cannot be in /run, /var/lib or /var/log" ;;
  esac
}

# show_logs: why it did not come up.
show_logs() {
  local log
  warn "$1; the ends of the logs in $LOGS:"
  for log in "$LOGS"/*.log; do
    printf '%s:\n' "${log##*/}"
    tail -n 8 "$log" | cut -c 1-300 | sed 's/^/  /'
  done >&2
  return 1
}

# soon WHAT COMMAND...: waits until COMMAND succeeds.
soon() {
  local what=$1 began=$SECONDS
  shift
  until "$@" >/dev/null 2>&1; do
    first_process >/dev/null || show_logs "the cluster has ended"
    ((SECONDS - began < READY_TIMEOUT_SECONDS)) || show_logs "$what is not there after $READY_TIMEOUT_SECONDS s"
    sleep 0.1
  done
}

# up [COMMAND...]: COMMAND is put before the first process, to tie it to this script.
up() {
  local outer pid began=$SECONDS
  check_place
  ! first_process >/dev/null || die "it runs already: hack/cluster.sh down"
  "$REPO/hack/control-plane.sh" build cluster
  remove_groups
  rm -rf "$STATE"
  mkdir -p "$LOGS"
  chmod 700 "$STATE"
  certificates
  settings
  make_groups
  "$@" unshare --mount --net --pid --uts --ipc --fork --kill-child=KILL --mount-proc --propagation private \
    "$REPO/hack/cluster.sh" inside </dev/null >"$LOGS/first.log" 2>&1 &
  outer=$!
  disown "$outer"
  until pid=$(child_of "$outer"); do
    kill -0 "$outer" 2>/dev/null || show_logs "the cluster has ended"
    sleep 0.05
  done
  say "$pid $(started_at "$pid")" >"$STATE/first-process"
  tools_image "$STATE/tools.tar"
  soon 'the control plane' enter kubectl -n default get serviceaccount default
  kubectl_in create clusterrolebinding kube-proxy --clusterrole=system:node-proxier --user=system:kube-proxy
  soon containerd enter ctr --address "$RUN/containerd.sock" version
  load "$STATE/tools.tar"
  kubectl_in apply -f "$REPO/hack/cluster/dns.yaml"
  soon 'the node' enter kubectl wait --for=condition=Ready "node/$NODE" --timeout=5s
  soon DNS enter kubectl -n kube-system wait --for=condition=Available deployment/dns --timeout=5s
  say "a cluster is up after $(elapsed "$began"): hack/cluster.sh in kubectl get nodes"
}

# child_of PID
child_of() {
  local children
  children=$(cat "/proc/$1/task/$1/children" 2>/dev/null) || return 1
  # unshare, or what stands before it, may still be about to become it.
  [ -n "${children// /}" ] && tr '\0' ' ' 2>/dev/null <"/proc/${children%% *}/cmdline" | grep -q ' inside ' && say "${children%% *}"
}

kubectl_in() { enter kubectl "$@" >>"$LOGS/kubectl.log" 2>&1 || show_logs "kubectl $* failed"; }

load() {
  local archive image
  for archive; do
    enter ctr --address "$RUN/containerd.sock" --namespace k8s.io images import "$(realpath "$archive")" >/dev/null
  done
  for image in $(enter ctr --address "$RUN/containerd.sock" --namespace k8s.io images list --quiet | grep -v '^sha256:\|@'); do
    enter ctr --address "$RUN/containerd.sock" --namespace k8s.io images label "$image" io.cri-containerd.pinned=pinned >/dev/null
  done
}

down() {
  local pid
  if pid=$(first_process); then
    kill -KILL "$pid" 2>/dev/null || true
    while [ -d "/proc/$pid" ]; do sleep 0.05; done
  fi
  remove_groups
  rm -rf "$STATE"
}

run() {
  local images=()
  while [ "${1:-}" = --image ]; do
    images+=("$2")
    shift 2
  done
  [ $# -gt 0 ] || usage 'run needs a COMMAND'
  trap finish EXIT
  trap 'exit 143' TERM HUP
  trap 'exit 130' INT
  up guarded_child
  load ${images[@]+"${images[@]}"}
  enter "$@" &
  COMMAND=$!
  wait "$COMMAND"
}

# guarded for a command that is to stay a child: `guarded` replaces the shell, which here is the subshell of `up`.
guarded_child() { guarded "$@"; }

COMMAND=
finish() {
  local status=$?
  trap '' TERM INT HUP
  trap - EXIT
  if [ -n "$COMMAND" ]; then kill "$COMMAND" 2>/dev/null || true; fi
  if [ -d "$STATE/logs" ] && [ "$status" != 0 ] && ((status < 128)); then
    rm -rf "$STATE.failed"
    cp -r "$LOGS" "$STATE.failed"
    warn "the logs of the cluster are kept in $STATE.failed"
  fi
  down
  exit "$status"
}

usage() {
  warn "$1"
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
build) "$REPO/hack/control-plane.sh" build cluster ;;
up) up setsid ;;
inside) inside ;;
load) load "$@" ;;
in) enter "$@" ;;
down) down ;;
run) run "$@" ;;
*) usage "unknown command '$command'" ;;
esac
