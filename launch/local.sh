#!/usr/bin/env bash
# Trains on all devices of one machine: CPU cores, GPUs, or the chips of one TPU host.
#
#     launch/local.sh --config=configs/jigsaw.py:3x3 --workdir=runs/jigsaw
#
# `PROCESSES=2 launch/local.sh …` starts two processes, as a cluster would. Use it to try a run of
# several processes on one machine. On a GPU machine, process i uses GPU i.
#
# Ctrl-C, SIGTERM and SIGHUP are sent to every process. The exit code is the highest of their exit codes.
#
# To fill in, as environment variables: PROCESSES (default: 1), PYTHON (default: python).
set -uo pipefail
set -m # otherwise processes in the background ignore Ctrl-C

processes=${PROCESSES:-1}
python=${PYTHON:-python}
if [[ ! $processes =~ ^[1-9][0-9]*$ ]]; then
  echo "PROCESSES=$processes is not a number of processes" >&2
  exit 2
fi
((processes == 1)) && exec "$python" -m ssljax.train "$@"

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=localhost:$port JAX_NUM_PROCESSES=$processes
pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null' INT
trap 'kill -HUP "${pids[@]}" 2>/dev/null' HUP
for ((i = 0; i < processes; i++)); do
  JAX_PROCESS_ID=$i JAX_LOCAL_DEVICE_IDS=$i "$python" -m ssljax.train "$@" &
  pids+=($!)
done
set +m # otherwise `wait` returns at once, again and again, while a process is stopped

code=0
for pid in "${pids[@]}"; do
  while # a signal interrupts `wait` before the process has ended
    wait "$pid"
    status=$?
    kill -0 "$pid" 2>/dev/null
  do :; done
  ((status > code)) && code=$status
done
exit "$code"
