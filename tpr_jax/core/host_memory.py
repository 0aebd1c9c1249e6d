"""How the process gets its memory: matters to XLA on CPU.

XLA allocates the temporaries of a step anew at every call, hundreds of megabytes. The
GNU C library fetches blocks of that size from the kernel with `mmap` and gives them
back at once, so every step faults in and clears tens of thousands of pages: up to half
of the time of a training step (tests/benchmarks/host_memory.py measures it).
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Mapping

# <malloc.h>: the parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def accelerator_expected(environment: Mapping[str, str] = os.environ) -> bool:
  """Whether JAX will find a plugin for an accelerator; does not start any."""
  platforms = environment.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] != "cpu"
  if importlib.metadata.entry_points(group="jax_plugins"):
    return True
  return importlib.util.find_spec("libtpu") is not None


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
  """Has the C library keep large freed blocks for the next step.

  Call before threads start: those that have an arena of their own keep it, and only
  the main one can hold blocks above 64 MB. The process then holds on to its peak
  memory. Does nothing where there is nothing to gain or somebody has decided already:
  other C libraries, an accelerator, `MALLOC_*` or `GLIBC_TUNABLES` in the environment.

  Returns:
    Whether the C library took the settings.
  """
  decided = [k for k in environment if k.startswith("MALLOC_") or k == "GLIBC_TUNABLES"]
  if platform.libc_ver()[0] != "glibc" or decided or accelerator_expected(environment):
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = {
    _MMAP_MAX: 0,
    _ARENA_MAX: 1,
    _TRIM_THRESHOLD: -1,  # never; the parameter is an int, 2 GiB would be its most
    _TOP_PAD: 2**26,
  }
  return all(mallopt(name, value) for name, value in settings.items())
