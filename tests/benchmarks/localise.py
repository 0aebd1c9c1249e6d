"""Do the phrases of runs look where they should? Several runs beside each other.

  python -m tests.benchmarks.localise runs/mra runs/mra_without_regions --random
    [--entry=test] [--count=400] [--by=cls*gradient,words] [--kinds] [--layers]

The same phrases for every run (tpr_jax/localise.py), on one test of each run's own
config, whose data must have regions. --random: also the first run's model with fresh
parameters, which is what its shape alone gives. Below every run stands its difference
from the one before: p is the two-sided one of tpr_jax/metrics/uncertainty.py, by
identity, not corrected for the number of runs and scores. Nothing is written.
"""

import argparse
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.benchmarks import rerank
from tpr_jax import config as configs
from tpr_jax import localise
from tpr_jax.core import text
from tpr_jax.data import transforms
from tpr_jax.data.record import Dataset
from tpr_jax.experiment import Experiment
from tpr_jax.localise_files import Looks
from tpr_jax.metrics import localisation, uncertainty
from tpr_jax.report import looks as shown

COMPARED = ("pointing", "energy", "iou_area")


class Subject(NamedTuple):
  """A model to be asked."""

  name: str
  experiment: Experiment
  model: Any
  params: Any


def subjects(runs: list[pathlib.Path], random: bool) -> Iterator[Subject]:
  for number, folder in enumerate(runs):
    experiment = Experiment(configs.load(folder / "config.json"), folder)
    model, params = rerank.selected(experiment)
    if random and not number:
      key = jax.random.key(experiment.config.seed)
      fresh = jax.jit(experiment.init_fn(model))(key)
      yield Subject(f"{folder.name}, random parameters", experiment, model, fresh)
    yield Subject(folder.name, experiment, model, params)


def ask(one: Subject, entry: str, count: int, by: str) -> tuple[Looks, Dataset]:
  config = one.experiment.config
  data = one.experiment.eval_data(entry)
  pairs = localise.choose(data, count, one.experiment.tokenizer, config.text.length)
  looker = localise.Looker(one.model, one.experiment.mesh, by)
  how = dict(pipe=transforms.build(config.data.eval_image), batch=config.eval.batch)
  return looker(one.params, data, pairs, **how), data


def difference(now: Looks, before: Looks, data: Dataset) -> str:
  same = all(
    np.array_equal(getattr(now, name), getattr(before, name))
    for name in ("record", "region", "phrase")
  )
  if not same:
    return "  other phrases than those of the run before: no difference"
  columns = []
  for each in (now, before):
    values = localisation.measure(each.mean, each.box, each.grid)
    columns.append(np.stack([values[name] for name in COMPARED], axis=1))
  ids = [data.records[at].identity for at in now.record]
  found = uncertainty.compare(*columns, ids)
  said = [
    f"{shown.COLUMNS[name]} {100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    f" (p {p:.4f})"
    for name, gain, low, high, p in zip(
      COMPARED, found.difference, found.low, found.high, found.p, strict=True
    )
  ]
  return "  against the one before: " + ", ".join(said)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("runs", type=pathlib.Path, nargs="+")
  parser.add_argument("--entry", default="test")
  parser.add_argument("--count", type=int, default=400)
  parser.add_argument("--by", type=lambda text: text.split(","), default=[localise.BY])
  parser.add_argument("--random", action="store_true")
  parser.add_argument("--kinds", action="store_true", help="a row for each region")
  parser.add_argument("--layers", action="store_true", help="a row for each layer")
  args = parser.parse_args()
  kept = {"all", "control"} | ({"region"} if args.kinds else set())
  kept |= {"layer"} if args.layers else set()
  print(f"{jax.device_count()} x {jax.devices()[0].device_kind}; {args.entry}:")
  before: dict[str, Looks] = {}
  for one in subjects(args.runs, args.random):
    for by in args.by:
      looks, data = ask(one, args.entry, args.count, by)
      found = localise.summary(looks, data, uncertainty.Bootstrap())
      print(f"\n{one.name}: {shown.about(found)}")
      rows = [row for row in shown.rows(found) if row.kind in kept]
      cell = lambda row, k: f"{row.cells[k]} [{row.spans.get(k, '')}]".replace(
        " []", ""
      )
      lines = [[row.name, *(cell(row, k) for k in shown.COLUMNS)] for row in rows]
      print("\n".join(text.aligned([["", *shown.COLUMNS.values()], *lines])))
      if by in before:
        print(difference(looks, before[by], data), flush=True)
      before[by] = looks


if __name__ == "__main__":
  main()
