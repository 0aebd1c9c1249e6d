#!/usr/bin/env bash
# The part of launch/tpu.sh that runs on every host of the slice, in ~/tpr_jax.
#   install           makes .venv with the program for TPUs
#   run ATTEMPT ARGS  starts the program, or finds it running, and shows its output to
#                     the end; the exit status is the program's. A connection that breaks
#                     does not stop it, and an attempt is started once
#   idle              exit status 0: it does not run
#   finished          exit status 0: it left with exit status 0
#   ended             exit status 0: it is over by itself, or by `stop`
#   stop              it saves and leaves
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
state="$HOME/tpr_jax-run" # pid, attempt, arguments, log, status, stopped
mkdir -p "$state"

# After a restart of the host the number may be that of another process.
running() {
  [ -s "$state/pid" ] &&
    grep --quiet tpr_jax.main "/proc/$(cat "$state/pid")/cmdline" 2>/dev/null
}

install_host() {
  # Images for TPUs come with Python 3.10; uv brings a newer one for this user.
  if ! (source launch/environment.sh && python_for_venv) >/dev/null 2>&1; then
    python3 -m pip install --quiet --user uv
    TPR_JAX_PYTHON="$(python3 -m uv python find 3.12 2>/dev/null)" || {
      python3 -m uv python install 3.12
      TPR_JAX_PYTHON="$(python3 -m uv python find 3.12)"
    }
    export TPR_JAX_PYTHON
  fi
  source launch/environment.sh
  install_accelerator tpu
}

# Detached, so that it outlives the connection.
start() {
  rm -f "$state"/{pid,status,stopped}
  printf '%q ' "$@" >"$state/arguments"
  setsid bash launch/tpu_host.sh supervise "$@" >"$state/log" 2>&1 </dev/null &
  within_10_seconds test -s "$state/pid" || {
    cat "$state/log" >&2
    return 1
  }
}

supervise() {
  local pid status=0
  source launch/environment.sh
  install_accelerator tpu # installed already; JAX must find TPUs
  .venv/bin/python -u -m tpr_jax.main "$@" &
  pid=$!
  echo "$pid" >"$state/pid"
  wait "$pid" || status=$?
  echo "$status" >"$state/status"
}

within_10_seconds() {
  local waited
  for ((waited = 0; waited < 100; waited++)); do
    ! "$@" || return 0
    sleep 0.1
  done
  echo "error: on $(hostname), waited 10 s for: $*" >&2
  return 1
}

run() {
  local attempt="$1"
  shift
  if running; then
    if [ "$(cat "$state/arguments")" != "$(printf '%q ' "$@")" ]; then
      echo "error: $(hostname) still runs with other arguments:" \
        "$(cat "$state/arguments"). First: bash launch/tpu.sh stop" >&2
      return 1
    fi
    echo "$(hostname): still running; this is what it says."
  elif [ "$attempt" != "$(cat "$state/attempt" 2>/dev/null)" ]; then
    start "$@"
  fi
  echo "$attempt" >"$state/attempt"
  tail --lines=+1 --sleep-interval=0.2 --pid="$(cat "$state/pid")" --follow "$state/log"
  # Killed together with its supervisor, it leaves no status.
  within_10_seconds test -s "$state/status"
  return "$(cat "$state/status")"
}

# 143 without `stop`: the host is going down.
ended() {
  ! running && [ -s "$state/status" ] || return 1
  [ "$(cat "$state/status")" != 143 ] || [ -e "$state/stopped" ]
}

stop() {
  running || return 0
  touch "$state/stopped"
  kill -TERM "$(cat "$state/pid")"
  echo "$(hostname): asked to save and leave"
  tail --sleep-interval=0.2 --pid="$(cat "$state/pid")" --follow /dev/null
}

verb="${1:-}"
shift || true
case "$verb" in
  install) install_host ;;
  run) run "$@" ;;
  supervise) supervise "$@" ;;
  idle) ! running ;;
  finished) [ "$(cat "$state/status" 2>/dev/null)" = 0 ] ;;
  ended) ended ;;
  stop) stop ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
