"""The flag without which GPU programs may add numbers in another order each time.

XLA then leaves out kernels with atomic additions, and does not choose kernels by
timing them. It must be set before JAX starts; a CPU and a TPU do not need it.
"""

import os
from collections.abc import MutableMapping

NAME = "--xla_gpu_deterministic_ops"
FLAG = f"{NAME}=true"


def ask(environment: MutableMapping[str, str] = os.environ) -> None:
  """Adds the flag to XLA_FLAGS, unless it is there with either value."""
  flags = environment.get("XLA_FLAGS", "").split()
  if not any(flag.partition("=")[0] == NAME for flag in flags):
    environment["XLA_FLAGS"] = " ".join([*flags, FLAG])


def asked(environment: MutableMapping[str, str] = os.environ) -> bool:
  return FLAG in environment.get("XLA_FLAGS", "").split()
