#!/usr/bin/env bash
# One machine with one or more NVIDIA GPUs: one process drives all of them.
#   bash launch/gpus.sh --config=configs/cfam.py:cuhk_pedes --config.data.root=DIR
#   CUDA_VISIBLE_DEVICES=0,1 bash launch/gpus.sh ...    takes two of them
#   TPR_JAX_EXTRA=cuda12 bash launch/gpus.sh ...        for drivers older than 580
# Arguments go to the program. Stopped by Ctrl-C or SIGTERM, it saves; the same command
# continues.
set -euo pipefail
if [ $# -eq 0 ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if ! command -v nvidia-smi >/dev/null; then
  echo "error: no nvidia-smi on PATH, so no NVIDIA driver. Without a GPU:" \
    "bash launch/quickstart.sh" >&2
  exit 1
fi
install_accelerator cuda
exec .venv/bin/python -m tpr_jax.main "$@"
