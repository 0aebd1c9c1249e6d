"""One training step, compiled for devices that are not there.

Run in a process of its own (`python -m tpr_jax.plan.program REQUEST.json`), because
libtpu ends the process at some errors, and a compilation cannot be interrupted
otherwise. It writes the program's text and what the compiler says about it.
"""

import gzip
import json
import pathlib
import re
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax import flops, program, run_weights
from tpr_jax.core import sharding, tree
from tpr_jax.plan import chips, facts

COMPILED, TOO_LARGE, FAILED = "compiled", "does not fit", "failed"


def main(request: str) -> None:
  """Reads a request, writes `answer` (JSON) and `text` (gzip), the paths it names."""
  asked = json.loads(pathlib.Path(request).read_text(encoding="utf-8"))
  config = ConfigDict(asked["config"])
  try:
    set_effort(asked["effort"])
    answer = compiled(
      config, chips.parse(asked["slice"]), asked["classes"], pathlib.Path(asked["text"])
    )
  except Exception as error:  # everything that JAX or libtpu may say
    answer = problem(error)
  configs.write_json(pathlib.Path(asked["answer"]), answer)


def set_effort(effort: float) -> None:
  """XLA's effort for this process, -1 to 1; JAX from 0.11 on has levels instead, where
  less than 0 is O1 and more than 0 is O3."""
  if not effort:
    return
  if hasattr(jax.config, "jax_exec_time_optimization_effort"):
    jax.config.update("jax_exec_time_optimization_effort", effort)
  else:
    jax.config.update("jax_optimization_level", "O1" if effort < 0 else "O3")


def problem(error: Exception) -> dict[str, Any]:
  """{"status", "message"}, and "needed" bytes where the memory is too small."""
  message = str(error).strip()
  first = message.splitlines()[0][:500] if message else ""
  found = re.search(r"[Uu]sed ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm", message)
  if "RESOURCE_EXHAUSTED" not in message and found is None:
    return dict(status=FAILED, message=f"{type(error).__name__}: {first}")
  needed = found and float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
  return dict(status=TOO_LARGE, message=first, needed=needed)


def devices(place: chips.Slice) -> list[Any]:
  """The devices of a slice, described by libtpu; or virtual ones of the CPU.

  Raises:
    ValueError: no such slice, or too few virtual devices.
  """
  if place.chip is None:
    found = jax.devices("cpu")
    if len(found) < place.chips:
      raise ValueError(
        f"{place.name} needs {place.chips} CPU devices, found {len(found)}; set"
        f" XLA_FLAGS=--xla_force_host_platform_device_count={place.chips}"
      )
    return found[: place.chips]
  from jax.experimental import topologies

  described = topologies.get_topology_desc(platform="tpu", topology_name=place.name)
  return list(described.devices)


def make_mesh(config: ConfigDict, place: chips.Slice) -> Mesh:
  """The mesh that training would make; a plain one where two cores share a chip."""
  found = devices(place)
  if place.chip is None or place.chip.devices == 1:
    return sharding.make_mesh(config.mesh, found)
  # v4 is described by its cores, which jax.make_mesh does not know how to lay out.
  sizes = [int(config.mesh.get(axis, 1)) for axis in sharding.AXES]
  sizes = np.empty(len(found)).reshape(sizes).shape  # fills in a -1
  return Mesh(
    np.array(found).reshape(sizes),
    sharding.AXES,
    axis_types=(AxisType.Auto,) * len(sharding.AXES),
  )


def fields(config: ConfigDict, place: chips.Slice) -> dict[str, Any]:
  """Fields of the model; "auto" is the dtype of the planned device, not of this one."""
  config = config.copy_and_resolve_references().unlock()
  if config.model.dtype == "auto":
    config.model.dtype = "bfloat16" if place.chip else "float32"
  return run_weights.model_fields(config, {})


def check_batch(config: ConfigDict, mesh: Mesh) -> None:
  """What training checks too.

  Raises:
    ValueError: the batch is no multiple of what it is split over.
  """
  pieces, shards = config.train.micro_batches, sharding.batch_shards(mesh)
  if config.data.batch % (pieces * shards):
    raise ValueError(
      f"data.batch={config.data.batch} cannot be split evenly into"
      f" train.micro_batches={pieces} over {shards} devices"
    )


def compiled(
  config: ConfigDict, place: chips.Slice, classes: int, text: pathlib.Path
) -> dict[str, Any]:
  """Compiles the step for the longest texts; writes its HLO to `text`, gzipped.

  Raises:
    Exception: of many kinds, from JAX and libtpu; `problem` reads them.
  """
  started = time.monotonic()
  mesh = make_mesh(config, place)
  check_batch(config, mesh)
  made, traced = _trace(config, place, classes, mesh)
  work = flops.count_jaxpr(traced.jaxpr.jaxpr)
  lowered = traced.lower()
  traced_at = time.monotonic()
  executable = lowered.compile()
  seconds = dict(trace=traced_at - started, compile=time.monotonic() - traced_at)
  with gzip.open(text, "wt", encoding="utf-8") as file:
    file.write(executable.as_text())
  return dict(
    status=COMPILED,
    memory=_memory(executable.memory_analysis()),
    mesh={axis: int(size) for axis, size in mesh.shape.items()},
    dtype=fields(config, place)["dtype"],
    device=mesh.devices.flat[0].device_kind,
    parameters=tree.count(made.plan.shapes.params),
    classes=classes,
    text_length=config.text.length,
    flops=dict(forward=work.forward, backward=work.backward),
    hardware_flops=work.total,
    matrix_passes=work.passes,
    seconds=seconds,
  )


def _trace(config: ConfigDict, place: chips.Slice, classes: int, mesh: Mesh):
  """(program, its traced step); the length of the run only enters as numbers."""
  made = program.build(
    config,
    fields(config, place),
    tokenizer=facts.vocabulary(config),
    num_classes=classes,
    mesh=mesh,
    steps=config.train.steps or 10_000,
    steps_per_epoch=1_000,
    captions=facts.captions(config, classes),
  )
  key = jax.eval_shape(lambda: jax.random.key(0))
  batch = program.batch_shapes(config, mesh)
  longest = max(batch, key=lambda shapes: shapes["text"].shape[1])
  return made, made.step.trace(made.plan.shapes, longest, key)


def _memory(analysis: Any) -> dict[str, int]:
  """Bytes of one device, as the compiler accounts for them.

  "needed": arguments, temporaries, code, and what of the results does not take the
  place of an argument."""
  names = dict(
    arguments="argument_size_in_bytes",
    temporaries="temp_size_in_bytes",
    output="output_size_in_bytes",
    alias="alias_size_in_bytes",
    code="generated_code_size_in_bytes",
  )
  found = {key: int(getattr(analysis, name)) for key, name in names.items()}
  peak = getattr(analysis, "peak_memory_in_bytes", None)
  found["peak"] = None if peak is None else int(peak)
  results = max(found["output"] - found["alias"], 0)
  found["needed"] = found["arguments"] + found["temporaries"] + results + found["code"]
  return found


if __name__ == "__main__":
  main(sys.argv[1])
