"""What XLA is told about a program of ours, by the kind of device that it is for."""

import jax
from jax.sharding import Mesh

# As JAX names them, and its descriptions of absent ones.
GPUS = ("gpu", "cuda", "rocm")


def options(mesh: Mesh | None = None) -> dict[str, bool]:
  """`compiler_options` of `jax.jit`, for programs of towers that run on this mesh.

  Without one, on JAX's first device.

  On GPUs a number that is rounded to bfloat16 stays rounded. XLA would leave the
  rounding out wherever float32 follows, write float32 in place of bfloat16, and round
  in each kernel that reads it (README, "On a GPU").

  Their matrix products are cuBLAS's. Triton's can do more in one kernel, but our layers
  leave little to do, and its kernels were the slower ones in the trace of an H200. They
  are also chosen by timing dozens of each, minutes at each new program; or not at all
  where runs shall repeat, and then XLA takes the first that it can compile.
  """
  device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
  if device.platform in GPUS:
    return {"xla_allow_excess_precision": False, "xla_gpu_enable_triton_gemm": False}
  return {}
