"""Layouts over eight virtual CPU devices: what they change, hold and send.

  python -m tests.benchmarks.layouts                     differences of small models
  python -m tests.benchmarks.layouts --family=CFAM
  python -m tests.benchmarks.layouts --sizes             CFAM, B/16: bytes; slow
  python -m tests.benchmarks.layouts --sizes --layers=2  with two blocks in each tower

The first trains small models of the configs (tests/layouts.py) for ten steps on one
device and on each layout, and prints the largest relative differences. The second
compiles the step of configs/cfam.py:cuhk_pedes (batch 64, 11,003 identities, CLIP's
vocabulary) from shapes alone; nothing runs. "state" is what each device holds between
steps; "sent" adds up what one device gets from collectives of each kind in one step; a
reduction counts once and whole, for XLA's CPU backend has no reduce-scatter. "work" is
the FLOPs of all devices over those of one device alone.
"""

import argparse
import time
import types
from collections import Counter

import jax

import tests.conftest  # noqa: F401  eight virtual devices, before anything else
from configs import cfam
from tests import collectives, layouts
from tpr_jax import program
from tpr_jax.core import sharding

MIB = 2**20
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


def print_differences(families: list[str], names: list[str]) -> None:
  print(
    f"{'':28}{'loss':>9} {'losses':>9} {'gradients':>9} {'parameters':>10} {'work':>5}"
  )
  for family in families:
    started = time.time()
    one = layouts.run(family, layouts.ONE)
    print(f"{family} (1 device: {time.time() - started:.0f} s)", flush=True)
    for name in names:
      made = layouts.run(family, name)
      found = layouts.differences(made, one)
      row = [f"{value:9.1e}" for value in found.values()]
      work = made.flops * 8 / one.flops
      print(f"  {name:26}{' '.join(row)} {work:6.2f}", flush=True)


def program_of(mesh: jax.sharding.Mesh, layers: int):
  """(config, program) of CFAM with B/16 on a mesh; nothing is compiled yet."""
  config = cfam.get_config("cuhk_pedes")
  fields = config.model.to_dict()
  fields = {k: v for k, v in fields.items() if v is not None and k[:5] != "init_"}
  if layers:
    fields |= dict(vision_layers=layers, text_layers=layers)
  fields |= dict(text_length=config.text.length, dtype="float32")
  return config, program.build(
    config,
    fields | dict(learn_scale=False, initial_scale=50.0),
    tokenizer=types.SimpleNamespace(
      vocab_size=49_408, mask_id=49_405, start_id=49_406, end_id=49_407
    ),
    num_classes=11_003,
    mesh=mesh,
    steps=1000,
    steps_per_epoch=100,
    captions=68_126,
  )


def print_sizes(names: list[str], layers: int) -> None:
  whole = None
  for name in [layouts.ONE, *names]:
    started, mesh = time.time(), layouts.mesh(name)
    config, built = program_of(mesh, layers)
    print(sharding.describe(built.plan.shapes, built.plan.shardings), flush=True)
    shapes = program.batch_shapes(config, mesh)[0]
    step = built.step.lower(built.plan.shapes, shapes, jax.random.key(0)).compile()
    flops = step.cost_analysis()["flops"]
    whole = whole or flops
    sent = Counter()
    for found in collectives.find(step.as_text()):
      sent[found.kind] += found.bytes
    kinds = ", ".join(f"{kind} {sent[kind] / MIB:,.0f}" for kind in KINDS if sent[kind])
    print(
      f"  sent, MiB: {sum(sent.values()) / MIB:,.0f} ({kinds});"
      f" work {mesh.size * flops / whole:.2f};"
      f" temporary {step.memory_analysis().temp_size_in_bytes / MIB:,.0f} MiB"
      f" ({time.time() - started:.0f} s)",
      flush=True,
    )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--family", action="append", choices=layouts.FAMILIES)
  parser.add_argument("--layout", action="append", choices=layouts.LAYOUTS)
  parser.add_argument("--sizes", action="store_true", help="bytes of CFAM B/16")
  parser.add_argument("--layers", type=int, default=0, help="of each tower; 0: all")
  options = parser.parse_args()
  jax.config.update("jax_platforms", "cpu")
  names = options.layout or list(layouts.LAYOUTS)
  if options.sizes:
    print_sizes(names, options.layers)
  else:
    print_differences(options.family or list(layouts.FAMILIES), names)


if __name__ == "__main__":
  main()
