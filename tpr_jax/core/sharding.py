"""The device mesh, and where each array lives on it.

Axes: "data" splits the batch; "fsdp" splits the batch AND parameters (so that
optimizer and parameters of a large model are not kept whole on every device);
"tensor" splits parameters only. `jit` over the mesh sees global arrays, so losses are
losses of the global batch on any number of devices.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tpr_jax.core import tree

AXES = ("data", "fsdp", "tensor")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
  """Mesh with the axes of `AXES` over all devices (or those given).

  Args:
    sizes: axis name -> number of devices; one axis may be -1: all that are left.
      Axes that are not named have size 1.

  Raises:
    ValueError: unknown axis, or a product that is not the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  unknown = sorted(set(sizes) - set(AXES))
  if unknown:
    raise ValueError(f"mesh: unknown axis {unknown[0]!r}; the axes are {AXES}")
  shape = [int(sizes.get(axis, 1)) for axis in AXES]
  if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
    raise ValueError(f"mesh: {dict(sizes)}: sizes are >= 1, and at most one is -1")
  if -1 in shape:
    known = -int(np.prod(shape))
    shape[shape.index(-1)] = max(len(devices) // known, 1)
  if int(np.prod(shape)) != len(devices):
    raise ValueError(
      f"mesh: {dict(zip(AXES, shape, strict=True))} needs {int(np.prod(shape))}"
      f" devices, found {len(devices)}; set one axis to -1 to use what is there"
    )
  return jax.make_mesh(
    tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """First axis over all devices that split the batch; the others whole."""
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def batch_shards(mesh: Mesh) -> int:
  return mesh.shape["data"] * mesh.shape["fsdp"]


def batch_share(mesh: Mesh) -> tuple[int, int]:
  """(index, count): which of how many equal shares of a batch this process reads.

  Processes whose devices split nothing but parameters among them ("tensor") hold the
  same rows: they have the same share.

  Raises:
    ValueError: this process has no device in the mesh, or processes hold different
      numbers of rows.
  """
  shards = batch_shards(mesh)
  held: dict[int, set[int]] = {}
  for device, (part,) in batch_sharding(mesh).devices_indices_map((shards,)).items():
    held.setdefault(device.process_index, set()).add(part.start or 0)
  return _share(held, jax.process_index(), shards)


def _share(held: Mapping[int, set[int]], process: int, shards: int) -> tuple[int, int]:
  """`batch_share`; held: process -> which of the pieces of a batch its devices hold."""
  shares = sorted({tuple(sorted(pieces)) for pieces in held.values()})
  sizes = {len(share) for share in shares}
  if process not in held or len(sizes) > 1 or sum(map(len, shares)) > shards:
    raise ValueError(
      f"mesh: process {process} has no share of its own of a batch: of its {shards}"
      f" pieces the processes hold {held}. Choose mesh sizes that give each of them as"
      " many pieces"
    )
  return shares.index(tuple(sorted(held[process]))), len(shares)


def _spec(name: str, shape: tuple[int, ...], rule: Any, mesh: Mesh) -> PartitionSpec:
  if rule is None or rule == "replicate" or not shape:
    return PartitionSpec()
  if rule == "fsdp":
    # The largest dimension that divides evenly: fewest, most equal pieces.
    for axis in sorted(range(len(shape)), key=lambda a: -shape[a]):
      if shape[axis] % mesh.shape["fsdp"] == 0:
        return PartitionSpec(*[None] * axis, "fsdp")
    return PartitionSpec()
  if isinstance(rule, str):
    raise ValueError(
      f"shardings: unknown rule {rule!r} for {name}; expected 'replicate', 'fsdp' or a"
      " tuple with one mesh axis (or None) for each dimension"
    )
  if len(rule) != len(shape):
    # Optimizer scalars and factored moments share a parameter's name, not its rank.
    return PartitionSpec()
  for size, axis in zip(shape, rule, strict=True):
    if axis is not None and size % mesh.shape[axis]:
      raise ValueError(
        f"shardings: {name} {shape} cannot be split by {rule}: {size} is not a multiple"
        f" of the {mesh.shape[axis]} devices of axis {axis!r}"
      )
  return PartitionSpec(*rule)


def state_shardings(state: Any, mesh: Mesh, rules: Sequence[tuple[str, Any]]) -> Any:
  """Tree of `NamedSharding` for a tree of arrays or shapes.

  Args:
    rules: (regex on the leaf's name, rule); the first that matches counts, none means
      replicated. Optimizer moments carry the name of their parameter at the end, so
      one rule serves both. A rule is "replicate", "fsdp" (split the largest dimension
      that divides), or a tuple with a mesh axis or None for each dimension.
  """
  return tree.map_named(
    lambda name, leaf: NamedSharding(
      mesh, _spec(name, leaf.shape, tree.first_match(rules, name), mesh)
    ),
    state,
  )


def to_global(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> Any:
  """This process's rows (numpy) -> global arrays whose first axis is sharded."""
  return {
    key: jax.make_array_from_process_local_data(sharding, value)
    for key, value in batch.items()
  }


def put(arrays: Any, where: NamedSharding) -> Any:
  """numpy arrays, the same in every process, onto the mesh; nothing is sent.

  `jax.device_put` would have the processes compare their values, every time.
  """
  return jax.tree.map(
    lambda x: jax.make_array_from_callback(x.shape, where, lambda index: x[index]),
    arrays,
  )
