"""What XLA is told about a program of ours, by the kind of device that it is for."""

from jax.sharding import Mesh


def options(mesh: Mesh) -> dict[str, bool]:
  """`compiler_options` of `jax.jit`, for programs that run on this mesh.

  On GPUs a number that is rounded to bfloat16 stays rounded. XLA would leave the
  rounding out wherever float32 follows, write float32 in place of bfloat16, and round
  in each kernel that reads it: a step of CFAM B/16, 64 pictures, 35.5 ms, without that
  34.7 (one H200, `python -m tests.benchmarks --only=gpu`).
  """
  if mesh.devices.flat[0].platform in ("gpu", "cuda", "rocm"):
    return {"xla_allow_excess_precision": False}
  return {}
