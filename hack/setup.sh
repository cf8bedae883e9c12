#!/usr/bin/env bash
# Installs what building, testing and the demo need, or names what is missing.
#
#   setup.sh demo          what `make demo` needs
#   setup.sh e2e           what `make e2e` needs (the demo's, and what a node needs)
#   setup.sh test          what `make test` needs (all of that, and a little more)
#
# Missing Debian packages are installed if this is root, or sudo asks for no password; the script prints them first. Anything else that is
# missing, it names. INSTALL=no: only names.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PACKAGES=()
OTHERS=()

# wants PACKAGE COMMAND...: PACKAGE is missing unless COMMAND succeeds.
wants() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || PACKAGES+=("$package")
}

# compiles: ring compiles C, for which the compiler alone is not enough.
compiles() { printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' | cc -x c -o /dev/null -; }

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

look_for_demo() {
  wants build-essential compiles
  wants curl command -v curl
  wants openssl command -v openssl
  wants util-linux command -v setsid
  local wanted version
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$REPO/Cargo.toml")
  version=$(cd "$REPO" && rustc --version 2>/dev/null | cut -d ' ' -f 2) || version=0
  at_least "$wanted" "$version" || OTHERS+=("Rust $wanted or newer, by rustup (rust-toolchain.toml names the version and its components)")
  # Only the control plane is Go: not needed where one is given.
  [ -n "${KUBEBUILDER_ASSETS:-}" ] || look_for_go ' (or KUBEBUILDER_ASSETS set to a directory with etcd, kube-apiserver and kubectl)'
}

# look_for_go [REMARK]
look_for_go() {
  local wanted version
  wanted=$(awk '$1 == "go" { print $2 }' "$REPO/hack/controlplane/go.mod")
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || version=go0
  at_least "$wanted" "${version#go}" || OTHERS+=("Go $wanted or newer, on the PATH${1:-}")
}

look_for_e2e() {
  look_for_demo
  # The cluster and helm are Go, wherever the control plane is from.
  [ -z "${KUBEBUILDER_ASSETS:-}" ] || look_for_go
  wants ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
  wants containerd command -v containerd
  wants runc command -v runc
  wants containernetworking-plugins test -x /usr/lib/cni/ptp
  wants nftables test -x /usr/sbin/nft
  wants iproute2 command -v ip
  # Sandboxes, strangers and DNS of the cluster.
  wants busybox-static command -v busybox
  wants dnsmasq-base test -x /usr/sbin/dnsmasq
}

look_for_test() {
  look_for_e2e
  wants python3-venv python3 -c 'import ensurepip, venv'
  wants shellcheck command -v shellcheck
  (cd "$REPO" && cargo fmt --version && cargo clippy --version) >/dev/null 2>&1 ||
    OTHERS+=("rustfmt and clippy: rustup component add rustfmt clippy")
}

# as_root COMMAND...: runs it as root, if that needs no password.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

may_install() {
  [ "${INSTALL:-}" != no ] && command -v apt-get >/dev/null && as_root true 2>/dev/null
}

install_packages() {
  [ ${#PACKAGES[@]} -gt 0 ] && may_install || return 0
  say "Missing Debian packages: ${PACKAGES[*]}. Installing them (INSTALL=no only names them) ..."
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${PACKAGES[@]}"
  PACKAGES=()
}

report() {
  local other
  [ ${#PACKAGES[@]} -gt 0 ] || [ ${#OTHERS[@]} -gt 0 ] || return 0
  warn "some things that this needs are not here:"
  if [ ${#PACKAGES[@]} -gt 0 ]; then
    printf '  - Debian packages: as root, apt-get install %s\n' "${PACKAGES[*]}" >&2
  fi
  for other in ${OTHERS[@]+"${OTHERS[@]}"}; do printf '  - %s\n' "$other" >&2; done
  exit 1
}

case ${1:-} in
demo) look_for_demo ;;
e2e) look_for_e2e ;;
test) look_for_test ;;
*) die "usage: setup.sh demo|e2e|test" ;;
esac
install_packages
report
