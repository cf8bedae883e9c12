#!/usr/bin/env bash
# Packs kubectl-vncpassword, a static program, for this machine's architecture.
#
#   plugin.sh [URL]     write target/plugin/kubectl-vncpassword-linux-ARCH.tar.gz and vncpassword.yaml, its manifest for Krew, and print
#                       their paths. URL: where the archive is to be fetched from, without its name; default: as a release would have it
#
# The archive is the same, byte for byte, for the same program. SOURCE_DATE_EPOCH (default: the commit's time) dates what is in it.
# Environment: CARGO_TARGET_DIR; VERSION (default: Cargo.toml's).
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
URL=${1:-https://vncpassword.dev/releases/v$VERSION}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || say 0)}
ARCHITECTURE=$(architecture)
ARCHIVE=kubectl-vncpassword-linux-$ARCHITECTURE.tar.gz
OUT=${CARGO_TARGET_DIR:-target}/plugin

build_static
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
install -m 0755 "$BINARIES/kubectl-vncpassword" crates/kubectl-vncpassword/package/kubectl_complete-vncpassword "$WORK"
install -m 0644 LICENSE "$WORK"
mkdir -p "$OUT"
tar --create --directory "$WORK" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner . |
  gzip --no-name >"$OUT/$ARCHIVE"
sed -e "s|{version}|v$VERSION|" -e "s|{uri}|${URL%/}/$ARCHIVE|" -e "s|{arch}|$ARCHITECTURE|" \
  -e "s|{sha256}|$(sha256sum "$OUT/$ARCHIVE" | cut -d ' ' -f 1)|" crates/kubectl-vncpassword/package/krew.yaml >"$OUT/vncpassword.yaml"
say "$OUT/$ARCHIVE"
say "$OUT/vncpassword.yaml"
