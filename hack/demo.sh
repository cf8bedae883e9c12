#!/usr/bin/env bash
# The main job, shown on a private control plane: etcd and kube-apiserver, an emulator in the cloud's place, and the operator.
#
#   demo.sh run [--no-build]     show it; stops and removes everything at the end. With KEEP=1 everything stays up.
#                                --no-build: operator and emulator are there already, from `cargo test` for instance, which builds
#                                its dependencies with other features, so that building again would take another minute
#   demo.sh stop                 stop and remove what KEEP=1 left up
#
# Every step checks what it shows and ends the demo with an error if it did not happen. Nothing leaves this machine: all
# traffic is between processes on 127.0.0.1.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

STATE=$CACHE/demo
REGION=cn-hangzhou
# Known to the emulator only.
ACCESS_KEY_ID=demo-key
ACCESS_KEY_SECRET=demo-secret
KEEP=${KEEP:-}
# Every password that the demo uses; none may turn up in a log.
PASSWORDS=(aB3xY9 Zq8Lm4 Kp7mQ2 Rt5wZ8 hN4cV6 dF6gH1)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$(printf '\033[1m') DIM=$(printf '\033[2m') GREEN=$(printf '\033[32m') RED=$(printf '\033[31m') PLAIN=$(printf '\033[0m')
else
  BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

# --------------------------------------------------------------------------------------------------------------- narration

STEP=0

step() {
  STEP=$((STEP + 1))
  printf '\n%s%d. %s%s\n' "$BOLD" "$STEP" "$*" "$PLAIN"
}

note() { printf '   %s\n' "$*"; }

# show COMMAND...: the command as a person would type it, and what it prints.
show() {
  local word line=''
  for word; do
    [[ $word =~ ^[a-zA-Z0-9_./:=-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  printf '   %s$%s%s\n' "$DIM" "$line" "$PLAIN"
  "$@" 2>&1 | sed 's/^/   /'
}

# check SECONDS WHAT COMMAND...: WHAT must become true, told by COMMAND succeeding.
check() {
  local limit=$1 what=$2 began=$EPOCHREALTIME start=$SECONDS beat=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    for_all_alive
    if ((SECONDS - beat >= 5)); then
      beat=$SECONDS
      printf '   %s... waiting for this: %s (%d of at most %d s)%s\n' "$DIM" "$what" $((SECONDS - start)) "$limit" "$PLAIN"
    fi
    if ((SECONDS - start >= limit)); then
      printf '   %sno: %s (waited %d s)%s\n' "$RED" "$what" "$limit" "$PLAIN"
      exit 1
    fi
    sleep 0.1
  done
  printf '   %sok:%s %s %s(%s s)%s\n' "$GREEN" "$PLAIN" "$what" "$DIM" \
    "$(awk -v a="${began/,/.}" -v b="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f", b - a }')" "$PLAIN"
}

# --------------------------------------------------------------------------------------------------------------- processes

# NAME -> pid, in the order of starting.
NAMES=()
declare -A PID=()

# start NAME COMMAND...: in the background, with its log in STATE. Unless it is to be kept, it ends with this script.
start() {
  local name=$1
  shift
  if [ -n "$KEEP" ]; then
    setsid "$@" </dev/null >"$STATE/$name.log" 2>&1 3>&- &
  else
    (guarded "$@" </dev/null >"$STATE/$name.log" 2>&1 3>&-) &
  fi
  remember "$name" $!
}

# remember NAME PID: with the time at which it started, so that `stop` cannot take another process with the same pid for it.
remember() {
  NAMES+=("$1")
  PID[$1]=$2
  disown "$2"
  printf '%s %s %s\n' "$1" "$2" "$(started_at "$2")" >>"$STATE/processes"
}

# Field 22 of /proc/PID/stat, nothing for a process that has ended (a zombie has, too). The second field is a name in
# parentheses that may hold blanks, hence the sed.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

for_all_alive() {
  local name
  for name in "${NAMES[@]}"; do
    kill -0 "${PID[$name]}" 2>/dev/null || {
      warn "$name has ended"
      exit 1
    }
  done
}

# stop_processes: ends, last started first, what STATE/processes names, and waits for it. By force after ten seconds.
stop_processes() {
  local name pid started deadline
  [ -f "$STATE/processes" ] || return 0
  while read -r name pid started; do
    deadline=$((SECONDS + 10))
    [ "$(started_at "$pid")" = "$started" ] || continue
    kill "$pid" 2>/dev/null || true
    while [ "$(started_at "$pid")" = "$started" ]; do
      ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
      sleep 0.05
    done
  done < <(tac "$STATE/processes")
}

clean_up() {
  local status=$? name
  [ "$BASHPID" = $$ ] || exit "$status"
  trap '' INT TERM HUP PIPE
  trap - EXIT
  if [ "$status" = 0 ] && [ -n "$KEEP" ]; then
    exit 0
  fi
  # Over 128: somebody stopped it, which needs no explanation.
  if ((status != 0 && status < 128)); then
    if [ "${KUBECONFIG:-}" = "$STATE/control-plane/kubeconfig" ]; then
      printf '\n%sWhat the API server has:%s\n' "$BOLD" "$PLAIN"
      kubectl get vncpw -o 'custom-columns=NAME:.metadata.name,CONDITIONS:.status.conditions[*].type,REASONS:.status.conditions[*].reason,MESSAGES:.status.conditions[*].message' 2>&1 | sed 's/^/   /' || true
    fi
    for name in ${NAMES[@]+"${NAMES[@]}"}; do
      printf '\n%sThe end of the log of %s:%s\n' "$BOLD" "$name" "$PLAIN"
      tail -n 20 "$STATE/$name.log" | cut -c 1-400 | sed 's/^/   /'
    done
  fi
  stop_processes
  exec 3>&- || true
  rm -rf "$STATE"
  if [ "$status" = 0 ]; then
    printf '\nEverything was stopped and removed. %smake demo KEEP=1%s leaves it up to play with.\n' "$BOLD" "$PLAIN"
  fi
  exit "$status"
}

# ---------------------------------------------------------------------------------------------------------------- emulator

# The control API of the emulator: docs/emulator.md.
emulator() {
  local method=$1 path=$2
  shift 2
  curl --silent --show-error --fail --noproxy '*' --max-time 5 --request "$method" "$EMULATOR/_emulator/$path" "$@"
}

# set_status ID STATUS
set_status() { emulator PUT "instances/$1/status" --data "\"$2\"" >/dev/null; }

# instance_field ID FIELD: a text field of an instance as the emulator knows it; nothing where it is null or missing.
instance_field() { emulator GET "instances/$1" | grep -o "\"$2\" *: *\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }

# show_instance ID: what the cloud has.
show_instance() {
  printf '   %s$ curl %s%s\n' "$DIM" "$EMULATOR/_emulator/instances/$1" "$PLAIN"
  printf '%s\n' "$(emulator GET "instances/$1")" | sed 's/^/   /'
}

password_is() { [ "$(instance_field "$1" consolePassword)" = "$2" ]; }

# -------------------------------------------------------------------------------------------------------------- Kubernetes

# condition NAME TYPE FIELD: a field of a condition of a VncPassword.
condition() { kubectl get vncpw "$1" -o "jsonpath={.status.conditions[?(@.type==\"$2\")].$3}"; }

is_ready() { [ "$(condition "$1" Ready status)" = True ]; }

# has_reason NAME TYPE REASON: the condition stands, for that reason.
has_reason() { [ "$(condition "$1" "$2" status)/$(condition "$1" "$2" reason)" = "True/$3" ]; }

# ------------------------------------------------------------------------------------------------------------------- steps

build() {
  need cargo 'install Rust by rustup'
  printf '%sBuilding the operator, the emulator and the control plane%s (only the first time takes minutes)\n' "$BOLD" "$PLAIN"
  if [ "$1" != --no-build ]; then cargo build --locked --bins; fi
  "$REPO/hack/control-plane.sh" build
  PATH=$("$REPO/hack/control-plane.sh" bin-dir):$(target_dir)/debug:$PATH
  export PATH
}

target_dir() {
  cargo metadata --locked --no-deps --format-version 1 | grep -o '"target_directory":"[^"]*"' | cut -d '"' -f 4
}

start_control_plane() {
  step 'A private control plane: etcd and kube-apiserver'
  # It ends when its standard input is closed, that is, with this script; a FIFO that it holds open itself is never closed.
  mkfifo "$STATE/stdin"
  exec 3<>"$STATE/stdin"
  if [ -n "$KEEP" ]; then
    setsid "$REPO/hack/control-plane.sh" run "$STATE/control-plane" <>"$STATE/stdin" >"$STATE/control-plane.log" 2>&1 3>&- &
  else
    setsid "$REPO/hack/control-plane.sh" run "$STATE/control-plane" <"$STATE/stdin" >"$STATE/control-plane.log" 2>&1 3>&- &
  fi
  remember control-plane $!
  check 90 'kube-apiserver is ready' grep -q '^ready ' "$STATE/control-plane.log"
  export KUBECONFIG=$STATE/control-plane/kubeconfig
  show kubectl apply --server-side -f crds/
  check 10 'the API server serves VncPasswords' kubectl get vncpw
}

start_emulator() {
  local id
  step 'The emulator in place of the cloud, with the instances that examples/ names'
  EMULATOR_ACCESS_KEY_ID=$ACCESS_KEY_ID EMULATOR_ACCESS_KEY_SECRET=$ACCESS_KEY_SECRET \
    start emulator ecs-emulator --listen 127.0.0.1:0
  check 10 'ecs-emulator listens' grep -q '^http://' "$STATE/emulator.log"
  EMULATOR=$(grep -m 1 '^http://' "$STATE/emulator.log")
  EMULATOR=${EMULATOR%/}
  while read -r id; do
    emulator PUT "instances/$id" --header 'content-type: application/json' --data "{\"regionId\": \"$REGION\"}" >/dev/null
    note "$id: Running, I/O optimized, no VNC password yet"
  done < <(sed -n 's/^ *instanceId: *//p' examples/*.yaml)
}

start_operator() {
  local port
  step 'The operator'
  port=$(free_port)
  OPERATOR=http://127.0.0.1:$port
  note "$DIM\$ vncpassword-operator run --region $REGION --ecs-endpoint $EMULATOR --http-addr 127.0.0.1:$port$PLAIN"
  ALIBABA_CLOUD_ACCESS_KEY_ID=$ACCESS_KEY_ID ALIBABA_CLOUD_ACCESS_KEY_SECRET=$ACCESS_KEY_SECRET \
    RUST_LOG=${RUST_LOG:-info,vncpassword=debug} \
    start operator vncpassword-operator run --region "$REGION" --ecs-endpoint "$EMULATOR" --http-addr "127.0.0.1:$port"
  check 15 'it is ready' curl --silent --fail --noproxy '*' --max-time 2 "$OPERATOR/readyz"
}

show_first_password() {
  step 'A Secret and a VncPassword: the password arrives at the instance'
  show kubectl apply -f examples/vncpassword.yaml
  check 15 'the instance has the password that stands in the Secret' password_is i-bp1quickstart01 aB3xY9
  show_instance i-bp1quickstart01
  check 10 'the object is Ready' is_ready quick-start
  show kubectl get vncpw -o wide
  check 5 'its RequestId is the one that the cloud gave for the call' request_id_is_the_clouds quick-start i-bp1quickstart01
}

# request_id_is_the_clouds NAME INSTANCE: the journal holds a call for that instance with the RequestId that the object has.
request_id_is_the_clouds() {
  local id
  id=$(kubectl get vncpw "$1" -o 'jsonpath={.status.requestId}')
  # One call a line.
  [ -n "$id" ] && emulator GET journal | sed 's/},{/\n/g' | grep -F ModifyInstanceVncPasswd | grep -F "\"$2\"" | grep -qF "\"$id\""
}

show_rotation() {
  local before
  step 'The Secret changes: the instance follows'
  before=$(kubectl get vncpw quick-start -o 'jsonpath={.status.requestId}')
  show kubectl patch secret quick-start --type merge --patch '{"stringData": {"password": "Zq8Lm4"}}'
  check 15 'the instance has the new password' password_is i-bp1quickstart01 Zq8Lm4
  show_instance i-bp1quickstart01
  check 10 'by a call of its own, with another RequestId' another_request_id quick-start "$before"
}

another_request_id() {
  local now
  now=$(kubectl get vncpw "$1" -o 'jsonpath={.status.requestId}')
  [ -n "$now" ] && [ "$now" != "$2" ] && is_ready "$1"
}

show_generated() {
  local password
  step 'spec.rotation: the operator draws the password and makes the Secret'
  show kubectl apply -f examples/rotation.yaml
  check 15 'the object is Ready' is_ready db-console
  password=$(kubectl get secret db-console -o 'jsonpath={.data.password}' | base64 -d)
  PASSWORDS+=("$password")
  check 5 'the password in the Secret opens the console' password_is i-bp1database0001 "$password"
  show kubectl describe secret db-console
  show kubectl get vncpw db-console
}

show_waiting() {
  step 'An instance in the wrong state: the operator waits, which is no error'
  set_status i-bp1standby01 Stopped
  note 'i-bp1standby01 is Stopped now, and refuses with IncorrectInstanceStatus.'
  show kubectl apply -f examples/one-secret-two-instances.yaml
  check 15 'the standby waits: Reconciling, IncorrectInstanceStatus' has_reason database-standby Reconciling IncorrectInstanceStatus
  check 15 'the primary, in the same Secret, is Ready' is_ready database-primary
  note "$(condition database-standby Reconciling message)"
}

show_refusal() {
  step 'A malformed password: the line break that echo adds'
  note "$DIM\$ echo dF6gH1 | kubectl create secret generic enforced --from-file=password=/dev/stdin$PLAIN"
  echo dF6gH1 | kubectl create secret generic enforced --from-file=password=/dev/stdin | sed 's/^/   /'
  apply_vnc_password_of examples/enforce-interval.yaml
  check 15 'refused before any call: Stalled, InvalidPassword' has_reason enforced Stalled InvalidPassword
  note "$(condition enforced Stalled message)"
  check 1 'the instance was left alone' password_is i-bp1enforced01 ''
  note 'Put right, it heals by itself:'
  show kubectl apply --server-side --force-conflicts -f examples/enforce-interval.yaml
  check 15 'the instance has the password' password_is i-bp1enforced01 Kp7mQ2
  check 10 'the object is Ready' is_ready enforced
}

# apply_vnc_password_of FILE: the VncPassword in FILE without the Secret beside it.
apply_vnc_password_of() { awk 'BEGIN { RS = "---\n" } /\nkind: VncPassword\n/' "$1" | kubectl apply -f - | sed 's/^/   /'; }

show_catching_up() {
  step 'The stopped instance comes back: the waiting password arrives'
  set_status i-bp1standby01 Running
  note 'i-bp1standby01 is Running again. All that wait are looked at together, every 15 s at first.'
  check 40 'the instance has its password' password_is i-bp1standby01 hN4cV6
  check 10 'the object is Ready' is_ready database-standby
}

show_the_end() {
  step 'What a person sees in the end'
  show kubectl get vncpw -o wide
  show kubectl events --for vncpassword/database-standby
  printf '   %s$ kubectl describe vncpw quick-start%s\n' "$DIM" "$PLAIN"
  kubectl describe vncpw quick-start | sed -n '/^Status:/,$p' | sed 's/^/   /'
  check 1 'no password stands in the log of the operator' no_password_in operator
}

no_password_in() {
  local password
  for password in "${PASSWORDS[@]}"; do
    ! grep -qF "$password" "$STATE/$1.log" || return 1
  done
}

how_to_go_on() {
  cat <<TEXT

${BOLD}Everything is still up.${PLAIN}

  export KUBECONFIG=$KUBECONFIG
  export PATH=$("$REPO/hack/control-plane.sh" bin-dir):\$PATH     # kubectl of the same version
  kubectl get vncpw -o wide

  curl $EMULATOR/_emulator/instances        the instances as the cloud has them (docs/emulator.md)
  curl $OPERATOR/readyz                     the operator
  $STATE/*.log    the logs

  make demo-stop                            stop and remove everything
TEXT
}

run() {
  local began
  cd "$REPO"
  if [ -f "$STATE/processes" ] && any_left; then
    die 'a demo is still up (or another is running): make demo-stop'
  fi
  rm -rf "$STATE"
  build "$1"
  mkdir -p "$STATE"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # Somebody reads no further: `make demo | head`.
  trap 'exit 141' PIPE
  began=$SECONDS
  start_control_plane
  start_emulator
  start_operator
  show_first_password
  show_rotation
  show_generated
  show_waiting
  show_refusal
  show_catching_up
  show_the_end
  printf '\n%sAll of it happened, in %s.%s\n' "$BOLD" "$(elapsed "$began")" "$PLAIN"
  if [ -n "$KEEP" ]; then how_to_go_on; fi
}

# any_left: a process of an earlier demo is still there.
any_left() {
  local name pid started
  while read -r name pid started; do
    [ "$(started_at "$pid")" != "$started" ] || return 0
  done <"$STATE/processes"
  return 1
}

stop() {
  [ -d "$STATE" ] || return 0
  stop_processes
  rm -rf "$STATE"
  say 'The demo was stopped and removed.'
}

case ${1:-} in
run) run "${2:-}" ;;
stop) stop ;;
*) die 'usage: demo.sh run [--no-build] | stop' ;;
esac
