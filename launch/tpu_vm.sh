#!/usr/bin/env bash
# Trains on a Cloud TPU slice, with a process on each of its hosts.
#
#     TPU=my-slice ZONE=us-west4-a launch/tpu_vm.sh \
#         --config=configs/jigsaw.py:3x3 --workdir=/shared/runs/jigsaw
#
# The checkout lies in every host's FOLDER with its virtual environment in .venv; data and --workdir
# must lie where every host sees them (docs/launch.md has the commands).
#
# What the hosts say is gathered in logs/TPU-DATE/HOST.log; the first one's is shown. Ctrl-C makes
# all processes save a checkpoint and end. Run it where the connection lasts, such as in tmux on a
# machine of the same zone: when it breaks, the processes end without saving.
#
# To fill in, from the environment: TPU, ZONE, FOLDER (ssljax, in the home folder).
set -uo pipefail
: "${TPU:?the name of the slice}" "${ZONE:?its zone}"

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all "$@"
}

logs=logs/$TPU-$(date +%Y%m%d-%H%M%S)
mkdir -p "$logs"
touch "$logs/0.log"
tail -n +1 -f "$logs/0.log" &
tail=$!
command="cd ${FOLDER:-ssljax} && .venv/bin/python -m ssljax.train$(printf ' %q' "$@")"
on_all_hosts --output-directory="$logs" --command="$command" &
training=$!
# The brackets keep pkill from matching the shell that runs it.
trap 'on_all_hosts --command="pkill -TERM -f [s]sljax.train"' INT TERM

while # a signal ends `wait` before the hosts have ended
  wait "$training"
  code=$?
  kill -0 "$training" 2>/dev/null
do :; done
sleep 1 # for the last lines
kill "$tail"
exit "$code"
