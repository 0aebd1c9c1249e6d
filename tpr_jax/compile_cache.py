"""Programs that were compiled before, in the user's folder for caches.

JAX's own cache, switched on: its key is the whole program, the versions, the flags and
the devices, so a program from it is the one that would be compiled. Variables of JAX
that are set (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE=false`) stay.
"""

import hashlib
import os
import pathlib
import platform
from collections.abc import MutableMapping

from tpr_jax.data import user_cache

KIND = "programs"
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_DEFAULTS = {
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
  # Bytes; JAX then deletes what was used longest ago.
  "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),
}


def use(environment: MutableMapping[str, str] = os.environ) -> None:
  """Has JAX, which must not have been imported, keep what it compiles."""
  if _FOLDER in environment:
    return
  place = user_cache.folder(KIND, environment)
  if place is None:
    return
  # Programs for a CPU have the instructions of the one they were compiled on, and a
  # home may be shared by machines with others.
  place = place / hashlib.sha256(_processor().encode()).hexdigest()[:12]
  try:
    place.mkdir(parents=True, exist_ok=True)
  except OSError:
    return  # a home that cannot be written to
  environment[_FOLDER] = str(place)
  for name, value in _DEFAULTS.items():
    environment.setdefault(name, value)


def _processor() -> str:
  """What the kernel says of the first processor's model and instructions."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
  except OSError:
    lines = []
  named = ("model name", "flags", "CPU part", "Features")
  found = [line for line in lines if line.startswith(named)]
  return "\n".join([platform.machine(), platform.processor(), *found])
