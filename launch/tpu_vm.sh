#!/usr/bin/env bash
# Trains on a Cloud TPU slice, with one process per host.
#
#     TPU=my-slice ZONE=us-west4-a launch/tpu_vm.sh \
#         --config=configs/jigsaw.py:3x3 --workdir=/shared/runs/jigsaw
#
# The checkout must be in FOLDER on every host, with its virtual environment in .venv. The data and
# --workdir must be on storage that every host sees. docs/launch.md has the commands.
#
# The output of the hosts is written to logs/TPU-DATE/HOST.log; that of the first host is also shown.
# On Ctrl-C, all processes save a checkpoint and end. If the connection breaks, the processes end
# without saving, so run it on a stable connection, such as in tmux on a machine of the same zone.
#
# To fill in, as environment variables: TPU, ZONE, FOLDER (default: ssljax, in the home folder).
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
# The brackets prevent pkill from matching the shell that runs it.
trap 'on_all_hosts --command="pkill -TERM -f [s]sljax.train"' INT TERM

while # a signal interrupts `wait` before the hosts have ended
  wait "$training"
  code=$?
  kill -0 "$training" 2>/dev/null
do :; done
sleep 1 # so that `tail` shows the last lines
kill "$tail"
exit "$code"
