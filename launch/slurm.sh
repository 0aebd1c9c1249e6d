#!/usr/bin/env bash
# One or more machines under SLURM: one process for each GPU. From the project's folder,
# which must be on storage that all nodes see, as must be the run folder and the data:
#   bash launch/slurm.sh install      once, where there is a network (the login node)
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 --cpus-per-task=8 \
#     --time=24:00:00 launch/slurm.sh --config=configs/cfam.py:cuhk_pedes \
#     --config.data.root=DIR --run=DIR
# Arguments after the script go to the program. Before the time limit, and when the job
# is preempted, the program saves and leaves; the job is queued again and continues.
# TPR_JAX_EXTRA=cuda12: older drivers; TPR_JAX_EXTRA= (empty): nodes without GPUs.
#SBATCH --job-name=tpr_jax
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# TERM, five minutes before the limit, to the step's processes and not to this script.
#SBATCH --signal=TERM@300
set -euo pipefail

if [ -z "${SLURM_JOB_ID:-}" ]; then
  if [ "$*" = install ]; then
    source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
    install_accelerator cuda
    exit
  fi
  sed -n '2,/^#SBATCH/{/^#S/d;s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi

# SLURM runs a copy of this file, so its place says nothing: the folder of sbatch does.
if [ ! -f "$SLURM_SUBMIT_DIR/launch/environment.sh" ]; then
  echo "error: $SLURM_SUBMIT_DIR is not the project's folder; run sbatch there." >&2
  exit 2
fi
source "$SLURM_SUBMIT_DIR/launch/environment.sh"

# JAX gives process i of a node the node's GPU number i: there must be as many processes
# as GPUs, and each must see all GPUs of its node (no --gpus-per-task, no --gpu-bind).
tasks=$((${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES} / SLURM_JOB_NUM_NODES))
if [ "${SLURM_GPUS_ON_NODE:-$tasks}" != "$tasks" ] ||
  [ -n "${SLURM_GPUS_PER_TASK:-}" ]; then
  echo "error: on each of $SLURM_JOB_NUM_NODES nodes there would be $tasks tasks and" \
    "${SLURM_GPUS_ON_NODE:-no} GPUs. Ask for one task for each GPU by" \
    "--gpus-per-node=N --ntasks-per-node=N, without --gpus-per-task." >&2
  exit 2
fi
install_accelerator cuda
# srun does not take this over from sbatch (since SLURM 22.05).
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

# A process that stops ends the others within a bounded time, and they may be saving:
# SLURM must not kill them at once, but only after a quarter of an hour.
# srun itself ignores TERM (it would kill the step); the processes get it from SLURM.
status=0
(
  trap '' TERM
  exec srun --kill-on-bad-exit=0 --wait=900 --label \
    .venv/bin/python -m tpr_jax.main --distributed "$@"
) || status=$?

# 143: left after TERM. A job that runs was near its time limit, or is being preempted;
# one that was cancelled is not running any more, and is left alone.
state="$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)"
if [ "$status" -eq 143 ] && [ "$state" = RUNNING ]; then
  echo "Stopped by TERM: job $SLURM_JOB_ID is queued again and continues the run."
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
