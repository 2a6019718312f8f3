#!/usr/bin/env bash
# Trains on a Slurm cluster, with a process per GPU.
#
#     sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh \
#         --config=configs/jigsaw.py:3x3 --workdir=/shared/runs/jigsaw
#
# Submit it from the checkout, with the virtual environment active or PYTHON=/path/to/python. The
# checkout, the environment, the data and --workdir must lie where every node sees them.
#
# Give no --gpus-per-task and no --gpu-bind: jax gives the i-th task of a node the i-th GPU of those
# that it sees, so it must see all. --ntasks-per-node=1 starts a process per node, for all its GPUs.
#
# When the job is preempted, or its time is up, all processes save a checkpoint, and the job goes
# back into the queue to go on from there; after a node has failed, Slurm puts it back. It does not
# go back after `scancel JOB`, nor when training failed (exit code 1), nor for a mistake in the
# command (2). `scancel --signal=TERM JOB` makes it save and queue again.
#
# To fill in, here or on sbatch's command line, which goes before: --partition, --account, --time
# (well above the five minutes that are left for saving).
#SBATCH --job-name=ssljax
#SBATCH --output=ssljax-%j.log
#SBATCH --open-mode=append
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
set -uo pipefail

# jax would take the first GPU of a node only (github.com/jax-ml/jax/issues/16788).
if [[ ${SLURM_NTASKS:-$SLURM_NNODES} == "$SLURM_NNODES" && ${SLURM_GPUS_ON_NODE:-1} != 1 ]]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

# A task that has saved and ended must not take the others with it, whatever the cluster's
# KillOnBadExit says; five minutes after the first has ended, none is waited for.
srun --kill-on-bad-exit=0 --wait=300 "${PYTHON:-python}" -m ssljax.train "$@"
code=$?
((code == 143)) && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
