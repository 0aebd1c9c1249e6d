#!/usr/bin/env bash
# Runs the tests in .venv (made if needed), in as many processes as there are cores, at
# most eight of about a gigabyte each. Arguments go to pytest: bash launch/test.sh -n 0
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install test
# A file of tests shares what it has compiled: one process runs all of it.
exec .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist loadscope "$@"
