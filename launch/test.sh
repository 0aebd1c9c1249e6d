#!/usr/bin/env bash
# Runs the tests in .venv (made if needed). Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install test
exec .venv/bin/python -m pytest "$@"
