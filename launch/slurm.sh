#!/usr/bin/env bash
# Trains on a Slurm cluster, with one process per GPU or per node.
#
#     sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh \
#         --config=configs/jigsaw.py:3x3 --workdir=/shared/runs/jigsaw
#
# Submit it from the checkout, with the virtual environment active or PYTHON=/path/to/python. The
# checkout, the environment, the data and --workdir must be on storage that every node sees.
#
# Do not pass --gpus-per-task or --gpu-bind: jax gives the i-th task of a node the i-th GPU that the
# task sees, so each task must see all GPUs. --ntasks-per-node=1 starts one process per node, which
# uses all its GPUs.
#
# When the job is preempted or its time runs out, all processes save a checkpoint, and the job is
# requeued and resumes from it. After a node failure, Slurm requeues the job. The job is not requeued
# after `scancel JOB`, after failed training (exit code 1) or after a mistake in the command (2).
# `scancel --signal=TERM JOB` saves a checkpoint and requeues the job.
#
# To fill in, here or on sbatch's command line, which takes precedence: --partition, --account, --time
# (well above the five minutes that are reserved for saving).
#SBATCH --job-name=ssljax
#SBATCH --output=ssljax-%j.log
#SBATCH --open-mode=append
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
set -uo pipefail

# Otherwise jax would use only the first GPU of a node (github.com/jax-ml/jax/issues/16788).
if [[ ${SLURM_NTASKS:-$SLURM_NNODES} == "$SLURM_NNODES" && ${SLURM_GPUS_ON_NODE:-1} != 1 ]]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

# The end of one task must not kill the tasks that are still saving, so the cluster's KillOnBadExit is
# overridden. Five minutes after the first task has ended, srun ends the others.
srun --kill-on-bad-exit=0 --wait=300 "${PYTHON:-python}" -m ssljax.train "$@"
code=$?
((code == 143)) && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
