"""What only a GPU can show. Where there is one, tests/test_gpu.py runs this folder in a
process of its own; by hand: JAX_PLATFORMS=cuda,cpu python -m pytest tests/gpu."""

import jax
import pytest

needs_gpu = pytest.mark.skipif(
  jax.default_backend() != "gpu", reason="JAX has no GPU here (JAX_PLATFORMS=cuda,cpu)"
)
