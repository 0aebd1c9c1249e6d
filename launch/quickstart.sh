#!/usr/bin/env bash
# From a clean clone to a table and a picture: trains CFAM on the embedded rendered
# people, tests it on identities it has never seen, and writes the report.
# Arguments go to the program: bash launch/quickstart.sh --config.seed=1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install
exec .venv/bin/python -m tpr_jax.main --config=configs/cfam.py "$@"
