#!/usr/bin/env bash
# A Cloud TPU slice, one host or many, by queued resources. Runs on your own machine (or
# on a small VM, in tmux), gcloud logged in; launch/tpu_host.sh does the hosts' part.
#
#   export SLICE=cfam ZONE=us-west4-a TYPE=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite
#   bash launch/tpu.sh watch --config=configs/cfam.py:cuhk_pedes \
#     --config.data.root=DIR --run=DIR
#   bash launch/tpu.sh delete
#
# create      asks for the slice and waits until it is there; replaces a preempted one
# install     copies this folder to all hosts and installs the program there
# run ARGS    starts the program on all hosts and shows what they say to the end; where
#             it runs already, only shows it
# watch ARGS  create, install and run; after a preemption all of it again, until the
#             program has ended
# stop        the program saves and leaves on all hosts; the same run continues
# delete      gives the slice back: until then it costs money
#
# SPOT=1: may be preempted, and is cheaper. PROJECT=NAME: another than gcloud's own.
# POLL=30: seconds between two looks at the slice.
# DRY_RUN=1: the commands are shown and not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' launch/tpu.sh >&2
  exit 2
}

fail() {
  echo "error: $*" >&2
  exit 1
}

say() { echo "$(date '+%F %T') $*"; }

# Shows a command as it could be typed; runs it, unless DRY_RUN is set.
do_() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  [ -n "${DRY_RUN:-}" ] || "$@"
}

need() {
  local name
  for name; do
    [ -n "${!name:-}" ] || fail "$name is not set; bash launch/tpu.sh shows an example."
  done
}

queued() { # VERB [FLAG...]
  local verb="$1"
  shift
  do_ gcloud compute tpus queued-resources "$verb" "$SLICE" "${place[@]}" "$@"
}

on_all_hosts() { # COMMAND
  do_ gcloud compute tpus tpu-vm ssh "$SLICE" "${place[@]}" --worker=all \
    --command="$1" </dev/null
}

hosts() { # WORD...: they reach launch/tpu_host.sh as they are
  on_all_hosts "bash tpr_jax/launch/tpu_host.sh$(printf ' %q' "$@")"
}

# ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED, ...; ABSENT where there is none.
state() {
  local answer
  if [ -n "${DRY_RUN:-}" ]; then
    echo "${DRY_STATE:-ACTIVE}"
  elif answer="$(gcloud compute tpus queued-resources describe "$SLICE" "${place[@]}" \
      --format='value(state.state)' 2>&1)"; then
    echo "$answer"
  elif [[ "$answer" == *NOT_FOUND* ]]; then
    echo ABSENT
  else
    echo "$answer" >&2
    return 1
  fi
}

# The state after a wait; a question may go without an answer, twenty in a row may not.
later() {
  local try
  for try in {1..20}; do
    sleep "$POLL"
    state && return
    echo "no answer ($try)" >&2
  done
  return 1
}

create() {
  local now
  now="$(DRY_STATE=ABSENT state)"
  while [ "$now" != ACTIVE ]; do
    case "$now" in
      ABSENT)
        need TYPE RUNTIME
        say "Asking for $SLICE ($TYPE in $ZONE)."
        queued create --node-id="$SLICE" --accelerator-type="$TYPE" \
          --runtime-version="$RUNTIME" ${price:+"$price"}
        ;;
      SUSPENDED)
        say "$SLICE was taken away; asking for another."
        queued delete --force --quiet
        ;;
      FAILED)
        gcloud compute tpus queued-resources describe "$SLICE" "${place[@]}" >&2
        fail "the request failed (above is why). bash launch/tpu.sh delete removes it."
        ;;
      *) say "$SLICE is $now." ;;
    esac
    now="$(later)"
  done
  say "$SLICE is ACTIVE."
}

install() {
  local folder
  folder="$(mktemp -d)"
  do_ tar -czf "$folder/tpr_jax.tar.gz" --exclude=./.git --exclude='./.venv*' \
    --exclude=./runs --exclude=./data --exclude=__pycache__ .
  do_ gcloud compute tpus tpu-vm scp "$folder/tpr_jax.tar.gz" "$SLICE:" "${place[@]}" \
    --worker=all
  rm -rf "$folder"
  on_all_hosts "mkdir -p tpr_jax && tar -xzf tpr_jax.tar.gz -C tpr_jax"
  hosts install
}

# A command whose connection broke is repeated, by gcloud and by watch, and the program
# may have ended on some hosts by then: they know the attempt and do not start it again.
run() {
  hosts run "$attempt" --distributed "$@"
}

disconnect() { [ -z "$connection" ] || kill -- "-$connection" 2>/dev/null || true; }

# run, and beside it a look at the slice: a connection to a host that is gone may hang.
# Exit status: run's, or 75 where the slice is gone.
run_while_active() {
  local now status='' ended=0
  set -m # a process group of its own, so that gcloud and its ssh can be ended
  run "$@" &
  connection=$!
  set +m
  while kill -0 "$connection" 2>/dev/null; do
    sleep "$POLL"
    now="$(state)" || continue
    if [ "$now" != ACTIVE ]; then
      say "$SLICE is $now."
      disconnect
      status=75
      break
    fi
  done
  wait "$connection" || ended=$?
  connection=
  return "${status:-$ended}"
}

watch() {
  local status
  while true; do
    create
    # A program that runs anywhere is not installed over, and is shown, not started.
    if on_all_hosts "[ ! -e tpr_jax ] || bash tpr_jax/launch/tpu_host.sh idle"; then
      install
      attempt="$(date +%s)-$$"
    fi
    status=0
    run_while_active "$@" || status=$?
    # A preempted host leaves before the slice's state says so. An end that is the
    # program's own would come again; anything else was a connection or a host.
    if [ "$status" -ne 0 ] && [ "$status" -ne 75 ] && [ "$(later)" = ACTIVE ]; then
      if hosts finished; then
        status=0
      elif hosts ended; then
        fail "the program left with exit status $status. $SLICE is still there: watch" \
          "with the same arguments continues, bash launch/tpu.sh delete gives it back."
      fi
    fi
    if [ "$status" -eq 0 ]; then
      say "Finished. Give the slice back: bash launch/tpu.sh delete"
      return
    fi
    say "Interrupted (exit status $status); the same run continues."
  done
}

[ $# -gt 0 ] || usage
verb="$1"
shift
case "$verb" in
  create | install | stop | delete) [ $# -eq 0 ] || fail "$verb takes no arguments." ;;
  run | watch) [ $# -gt 0 ] || fail "$verb needs the program's arguments" ;;
  *) usage ;;
esac
need SLICE ZONE
[ -n "${DRY_RUN:-}" ] || command -v gcloud >/dev/null ||
  fail "gcloud is not on PATH. It is part of the Google Cloud CLI."
place=(--zone="$ZONE")
[ -z "${PROJECT:-}" ] || place+=(--project="$PROJECT")
price=
[ "${SPOT:-0}" = 0 ] || price=--spot
POLL="${POLL:-30}"
attempt="$(date +%s)-$$"
connection=
trap disconnect EXIT
case "$verb" in
  stop) hosts stop ;;
  delete) queued delete --force --quiet ;;
  *) "$verb" "$@" ;;
esac
