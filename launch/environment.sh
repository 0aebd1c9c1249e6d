# shellcheck shell=bash
# Sourced by the other scripts: makes .venv in the project's folder and installs it.
#   install [EXTRA]    for example: install test
#   install_accelerator EXTRA    the same for cuda, cuda12 or tpu; JAX must find it then
# TPR_JAX_PYTHON chooses the interpreter; the default is the newest supported one.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

python_for_venv() {
  local name
  for name in ${TPR_JAX_PYTHON:-python3.12 python3.11 python3.13 python3}; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  echo "tpr_jax needs Python 3.11, 3.12 or 3.13; none was found on PATH." >&2
  echo "Install one, or name it: TPR_JAX_PYTHON=/path/to/python bash $0" >&2
  return 1
}

install() {
  local extra="${1:+[$1]}" stamp=".venv/installed${1:+-$1}"
  if [ ! -x .venv/bin/python ]; then
    local python
    python="$(python_for_venv)"
    echo "Making .venv with $python"
    "$python" -m venv .venv
  fi
  if [ ! -f "$stamp" ] || [ setup.cfg -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    echo "Installing tpr_jax${extra} into .venv (about 1.2 GB; minutes on a new machine)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".${extra}"
    touch "$stamp"
  fi
}

install_accelerator() {
  # TPR_JAX_EXTRA takes another extra; empty: no accelerator, the CPU.
  local extra="${TPR_JAX_EXTRA-$1}"
  install "$extra"
  # JAX warns and goes on with the CPU where it finds no accelerator; days are lost so.
  # A platform that is named must be there.
  case "$extra" in
    cuda*) export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}" ;;
    tpu*) export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}" ;;
  esac
}
