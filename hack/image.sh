#!/usr/bin/env bash
# Builds the image of a program without a container engine, as a docker-archive (`ctr images import`, `docker load`, `podman load`).
#
#   image.sh operator|emulator     write target/image/NAME.tar and print its path
#
# The image holds a static binary, the CA bundle of this machine (Debian's ca-certificates) and the licence, nothing else; time zones are compiled in.
# Order, owners and times in it do not hang on the machine. SOURCE_DATE_EPOCH (default: the commit's time) dates everything. Containerfile does the same where an engine is at hand.
# Environment: CARGO_TARGET_DIR; VERSION (default: Cargo.toml's), the tag.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MAX_BYTES=$((25 * 1024 * 1024))
CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
USER_ID=65532

case ${1:-} in
operator) PROGRAM=vncpassword-operator TITLE=vncpassword-operator ARGUMENTS='"run"' ;;
emulator) PROGRAM=ecs-emulator TITLE=ecs-emulator ARGUMENTS='' ;;
*) die "usage: image.sh operator|emulator" ;;
esac

cd "$REPO"
[ -s "$CA_BUNDLE" ] || die "no CA bundle at $CA_BUNDLE: apt-get install ca-certificates"
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
REVISION=$(git rev-parse HEAD 2>/dev/null || say unknown)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || say 0)}
CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)
ARCHITECTURE=$(architecture)

build_static

OUT=$TARGET/image
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$OUT" "$WORK/root/etc/ssl/certs" "$WORK/root/usr/bin" "$WORK/root/usr/share/licenses/vncpassword-operator" "$WORK/image"
install -m 0755 "$BINARIES/$PROGRAM" "$WORK/root/usr/bin/$PROGRAM"
install -m 0644 "$CA_BUNDLE" "$WORK/root/etc/ssl/certs/ca-certificates.crt"
install -m 0644 LICENSE "$WORK/root/usr/share/licenses/vncpassword-operator/LICENSE"

# pack DIR FILE: the same bytes for the same files.
pack() {
  tar --create --file "$2" --directory "$1" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX .
}
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

pack "$WORK/root" "$WORK/image/layer.tar"
cat >"$WORK/config.json" <<JSON
{"architecture":"$ARCHITECTURE","os":"linux","created":"$CREATED",
"config":{"User":"$USER_ID:$USER_ID","Entrypoint":["/usr/bin/$PROGRAM"],"Cmd":[$ARGUMENTS],"WorkingDir":"/",
"Env":["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
"Labels":{"org.opencontainers.image.title":"$TITLE","org.opencontainers.image.version":"$VERSION","org.opencontainers.image.revision":"$REVISION",
"org.opencontainers.image.created":"$CREATED","org.opencontainers.image.licenses":"Apache-2.0",
"org.opencontainers.image.description":"VNC passwords of Alibaba Cloud ECS instances"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$(digest "$WORK/image/layer.tar")"]},
"history":[{"created":"$CREATED","created_by":"hack/image.sh"}]}
JSON
config=$(digest "$WORK/config.json").json
mv "$WORK/config.json" "$WORK/image/$config"
say "[{\"Config\":\"$config\",\"RepoTags\":[\"$TITLE:$VERSION\"],\"Layers\":[\"layer.tar\"]}]" >"$WORK/image/manifest.json"
pack "$WORK/image" "$WORK/$1.tar"
size=$(stat -c %s "$WORK/$1.tar")
[ "$size" -le "$MAX_BYTES" ] || die "the image is $size bytes, more than $MAX_BYTES: what came in?"
mv "$WORK/$1.tar" "$OUT/$1.tar"
say "$OUT/$1.tar"
