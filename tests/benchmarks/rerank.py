"""What a shortlist costs, and what it gains, against its size: on a test of a run.

  python -m tests.benchmarks.rerank runs/cfam [--by=matcher] [--entry=test]
    [--tops=10,20,50,100] [--weights=1] [--combine=sum] [--processes=4] [--cache=auto]
    [--flip]

Pictures and captions are encoded once; nothing is written to the run. A weight is that
of the cosine (eval.rerank.global_weight). Differences are from one stage, in points; p
is the two-sided one of tpr_jax/metrics/uncertainty.py, by identity, not corrected for
the number of rows: choose on validation, not here.
"""

import argparse
import pathlib
from typing import Any

import jax
import numpy as np

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax import evaluate, run_weights, two_stage
from tpr_jax.core import sharding, storage
from tpr_jax.experiment import Experiment
from tpr_jax.metrics import uncertainty

SCORES = ("R1", "mAP")


def settings(folder: pathlib.Path, **rerank: Any) -> Any:
  """The run's config with a second stage; runs of before a field have it too."""
  flip = rerank.pop("flip")
  config = configs.load(folder / "config.json")
  with config.unlocked():
    config.eval.flip = flip
    config.eval.rerank = rerank
  return config


def selected(experiment: Experiment) -> tuple[Any, Any]:
  """(model, parameters) of the checkpoint that an evaluation takes."""
  made = configs.read_json(experiment.folder / "run.json")
  model = experiment.model(made["num_classes"])
  shapes = jax.eval_shape(experiment.init_fn(model), jax.random.key(0))
  where = sharding.state_shardings(shapes, experiment.mesh, experiment.config.shardings)
  place = storage.checkpoints(experiment.folder)
  saved = ckpt.Checkpoints(place, read_only=True)
  step, _ = run_weights.selected(saved, experiment.config.train.select)
  params = saved.restore_params(step, ckpt.abstract(shapes, where))
  saved.close()
  return model, params


def row(found: evaluate.Evaluation, first: evaluate.Evaluation, ids: np.ndarray) -> str:
  """R1 and mAP, and against one stage the difference and its p."""
  real = first.result.matches > 0
  both = [
    np.stack([one.result.per_query()[name][real] for name in SCORES], axis=1)
    for one in (found, first)
  ]
  gain = uncertainty.compare(*both, ids[real])
  means = 100 * both[0].mean(axis=0)
  return "  ".join(
    f"{mean:6.2f} {100 * more:+7.2f} (p {p:6.4f})"
    for mean, more, p in zip(means, gain.difference, gain.p, strict=True)
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  numbers = lambda kind: lambda text: [kind(part) for part in text.split(",")]
  parser.add_argument("run", type=pathlib.Path)
  parser.add_argument("--by", default="matcher")
  parser.add_argument("--entry", default="test")
  parser.add_argument("--tops", type=numbers(int), default=[10, 20, 50, 100])
  parser.add_argument("--weights", type=numbers(float), default=[1.0])
  parser.add_argument("--combine", default="sum")
  parser.add_argument("--processes", type=int, default=4)
  parser.add_argument("--cache", default="auto")
  parser.add_argument("--flip", action="store_true")
  args = parser.parse_args()
  given = {k: getattr(args, k) for k in ("by", "combine", "processes", "cache", "flip")}
  config = settings(args.run, top=max(args.tops), **given)
  experiment = Experiment(config, args.run)
  asked = experiment.reranking()
  model, params = selected(experiment)
  data = experiment.eval_data(args.entry)
  features = experiment._evaluate(model, params, data, asked.stage)
  first = evaluate.score(features, data, top=asked.top, mesh=experiment.mesh)
  ids, _ = evaluate.identities(features, data)
  print(f"{jax.device_count()} x {jax.devices()[0].device_kind}; {args.entry}:")
  print(f"  {'top':>5} {'weight':>7} {'ms/query':>9} {'R1':>25} {'mAP':>27}")
  print(f"  {'one stage':>23}  {row(first, first, ids)}")
  for top in args.tops:
    for weight in args.weights:
      how = two_stage.settings(
        dict(rerank=dict(config.eval.rerank, top=top, global_weight=weight)),
        config.losses,
        config.objective,
      )
      found = two_stage.score(
        how, first, features, data, model, params, name="", mesh=experiment.mesh
      )
      took = 1000 * found.scores["rerank"]["seconds_per_query"]
      print(f"  {top:5} {weight:7g} {took:9.2f}  {row(found, first, ids)}", flush=True)


if __name__ == "__main__":
  main()
