"""How the process gets its memory: matters to XLA on CPU.

XLA allocates the temporaries of a step anew at every call, hundreds of megabytes. The
GNU C library fetches blocks of that size from the kernel with `mmap` and gives them
back at once, so every step faults in and clears tens of thousands of pages, which
tests/benchmarks/host_memory.py counts and times.

Beside those, a step's kernels ask for thousands of small blocks. The heap in which the
step was compiled is in shreds, which the C library has to search each time. So threads
keep heaps of their own (glibc's arenas), which the large temporaries do not fit into:
the program runs in the thread that calls it, whose heap has room for both.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Mapping

# <malloc.h>: the parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


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

  The process then holds on to its peak memory. Does nothing where there is nothing to
  gain or somebody has decided already: other C libraries, an accelerator, `MALLOC_*` or
  `GLIBC_TUNABLES` in the environment.

  Returns:
    Whether the C library took the settings. They need `run_in_caller`, too.
  """
  decided = [k for k in environment if k.startswith("MALLOC_") or k == "GLIBC_TUNABLES"]
  if platform.libc_ver()[0] != "glibc" or decided or accelerator_expected(environment):
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = {
    _MMAP_MAX: 0,
    _TRIM_THRESHOLD: -1,  # never; the parameter is an int, 2 GiB would be its most
    _TOP_PAD: 2**26,
  }
  return all(mallopt(name, value) for name, value in settings.items())


def run_in_caller() -> None:
  """Has JAX run a program of one CPU in the thread that calls it.

  The main thread's heap is the only one that can hold blocks above 64 MB: those that
  another thread asks for come from the kernel, page by page, every time. Imports JAX,
  which takes seconds: call when all that can be checked without it has been, and before
  its devices are asked for.
  """
  import jax

  jax.config.update("jax_cpu_enable_async_dispatch", False)
