"""What the filter finds of wrong pairs, against their share and the share that is kept.

  python -m tests.benchmarks.filter_noise runs/ga_dms-words [--noise=0.1,0.3,0.5]
    [--seeds=7,8,9] [--texts=coarse] [--identities=500] [--pool=1000]
    [--ratios=0.9,0.8,0.7,0.6,0.5]

Rendered people (two pictures each), a share of whose captions is another person's, are
judged by a run's towers, for each noise and each seed of people, captions and pool. In
the table: mean and sample standard deviation over the seeds, percent, of precision (of
the dropped pairs, those that are wrong) and recall (of the wrong pairs, those that are
dropped), by the rank c, by the similarity s0 alone, and by chance. "in order" is the
average precision of the whole order. Folders of the filters are temporary.
"""

import argparse
import collections
import contextlib
import io
import pathlib
import tempfile

import jax
import numpy as np

from configs import filter as filters
from tpr_jax.core import text
from tpr_jax.data import build
from tpr_jax.data.damage import Damage
from tpr_jax.filter import manifest, page, run, settings


def judged(args, noise: float, seed: int):
  """(scored pairs, which are wrong) of one filter."""
  c = filters.get_config("rendered,keep_ratio=0.7")
  c.scorer.place = str(args.run)
  c.pool.size, c.pool.seed = args.pool, seed
  c.data.options.update(
    granularity=tuple(args.texts),
    identities=args.identities,
    views=2,
    seed=seed,
    pair_noise=noise,
  )
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder, "filtered")
    with contextlib.redirect_stdout(io.StringIO()):
      run.run(settings.read(c), out)
    lines = manifest.of_manifest(out / "filter.jsonl")
    options = c.data.options.to_dict()
    data = build.dataset(c.data.name, "", "train", options)
    wrong = page.wrong_pairs(data)
    scored, _ = manifest.scored(lines, len(wrong), Damage("rendered", len(wrong)))
  return scored, wrong


def in_order(order: np.ndarray, wrong: np.ndarray) -> float:
  """Average precision of the wrong pairs in an order of the pairs, best first."""
  hits = wrong[order[::-1]]
  found = np.cumsum(hits) / np.arange(1, len(hits) + 1)
  return float(found[hits].mean())


def spread(values: list[float]) -> str:
  mean = 100 * np.mean(values)
  return (
    f"{mean:.1f} ± {100 * np.std(values, ddof=1):.1f}" if values[1:] else f"{mean:.1f}"
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  numbers = lambda kind: lambda given: [kind(part) for part in given.split(",")]
  parser.add_argument("run", type=pathlib.Path)
  parser.add_argument("--noise", type=numbers(float), default=[0.1, 0.3, 0.5])
  parser.add_argument("--seeds", type=numbers(int), default=[7, 8, 9])
  parser.add_argument("--texts", type=numbers(str), default=["coarse"])
  parser.add_argument("--identities", type=int, default=500)
  parser.add_argument("--pool", type=int, default=1000)
  parser.add_argument(
    "--ratios", type=numbers(float), default=[0.9, 0.8, 0.7, 0.6, 0.5]
  )
  args = parser.parse_args()
  print(f"{args.run.name}, {jax.device_count()} x {jax.devices()[0].device_kind}")
  head = ["wrong", "kept", *(f"{by}: prec., rec." for by in ("rank", "s0"))]
  lines = [[*head, "chance"]]
  for noise in args.noise:
    found = collections.defaultdict(list)
    for seed in args.seeds:
      scored, wrong = judged(args, noise, seed)
      orders = dict(rank=scored.order(), s0=page.by_similarity(scored))
      found["wrong"].append(float(wrong[orders["rank"]].mean()))
      for by, order in orders.items():
        found[by].append(in_order(order, wrong))
        for ratio in args.ratios:
          found[by, ratio].append(page.found_at(order, wrong, ratio))
    for ratio in args.ratios:
      cells = [f"{100 * noise:g} %", f"{100 * ratio:g} %"]
      for by in ("rank", "s0"):
        cells.append(
          ", ".join(spread(list(one)) for one in zip(*found[by, ratio], strict=True))
        )
      chance = 100 * np.mean(found["wrong"])
      lines.append([*cells, f"{chance:.1f}, {100 * (1 - ratio):.1f}"])
    last = [spread(found[by]) for by in ("rank", "s0", "wrong")]
    lines.append([f"{100 * noise:g} %", "in order", *last])
    print(
      "\n".join(text.aligned([lines[0], *lines[-len(args.ratios) - 1 :]])), flush=True
    )


if __name__ == "__main__":
  main()
