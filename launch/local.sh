#!/usr/bin/env bash
# Trains on one machine, on all its devices: CPU cores, GPUs, or the chips of one TPU host.
#
#     launch/local.sh --config=configs/jigsaw.py:3x3 --workdir=runs/jigsaw
#
# PROCESSES=2 launch/local.sh … starts as many processes, as a cluster would: to try out there what
# several hosts do. On a GPU machine process i then takes GPU i.
#
# Ctrl-C and SIGTERM reach every process. The exit code is the highest of theirs.
#
# To fill in, from the environment: PROCESSES (1), PYTHON (python).
set -uo pipefail
set -m # else processes in the background ignore Ctrl-C

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
for ((i = 0; i < processes; i++)); do
  JAX_PROCESS_ID=$i JAX_LOCAL_DEVICE_IDS=$i "$python" -m ssljax.train "$@" &
  pids+=($!)
done

code=0
for pid in "${pids[@]}"; do
  while # a signal that is passed on ends `wait` before the process has ended
    wait "$pid"
    status=$?
    kill -0 "$pid" 2>/dev/null
  do :; done
  ((status > code)) && code=$status
done
exit "$code"
