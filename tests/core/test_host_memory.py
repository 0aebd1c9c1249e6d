"""Freed memory is kept for reuse, and left alone where somebody else has decided."""

import platform
import subprocess
import sys

import pytest

from tpr_jax.core import host_memory

_FAULTS = """
import resource, sys
from tpr_jax.core import host_memory
if sys.argv[1] == "kept":
  assert host_memory.keep_freed_memory({"JAX_PLATFORMS": "cpu"})
  host_memory.run_in_caller()
import jax, jax.numpy as jnp

@jax.jit
def step(x):  # its temporary [5000, 5000] of 100 MB is above what a thread's heap holds
  return (jnp.sin(x[:, None] * x) @ x).sum()

x = jnp.ones(5000)

def faults():
  for _ in range(4):
    step(x).block_until_ready()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
print(faults() - before)
"""


def faults(how):
  command = [sys.executable, "-c", _FAULTS, how]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_temporaries_of_a_program_are_not_fetched_again(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # for the other process
  few = faults("kept") * 20  # 100 MB are 25,600 pages of 4 kB
  assert few < faults("as it comes")


_TOP = """
import ctypes
from tpr_jax.core import host_memory
assert host_memory.keep_freed_memory({"JAX_PLATFORMS": "cpu"})
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.sbrk.argtypes = [ctypes.c_ssize_t]
block = libc.malloc(5 * 2**29)  # 2.5 GiB that nobody touches
assert block, "no room for a block of 2.5 GiB"
before = libc.sbrk(0)
libc.free(block)
print(before - libc.sbrk(0))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_blocks_above_two_gigabytes_are_kept_too():
  """A step of B/16 at batch 8 has one; a threshold in an int would let it go."""
  command = [sys.executable, "-c", _TOP]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert int(done.stdout) == 0


@pytest.mark.parametrize(
  "environment",
  [
    {"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "4"},
    {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    {"JAX_PLATFORMS": "cuda,cpu"},
  ],
)
def test_does_nothing_where_others_have_decided(environment):
  assert host_memory.keep_freed_memory(environment) is False


def test_platform_of_the_environment_decides():
  assert not host_memory.accelerator_expected({"JAX_PLATFORMS": "cpu"})
  assert host_memory.accelerator_expected({"JAX_PLATFORMS": "tpu"})
