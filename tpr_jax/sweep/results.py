"""What the runs of a sweep gave: scores, mean and spread of each row, differences."""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax import config as configs
from tpr_jax.metrics import localisation
from tpr_jax.sweep.plan import Plan, Run

Summary = dict[str, Any]  # what sweep.json holds


def finished(run: Run) -> bool:
  """Has the run written its results? (Its folder is known to hold its config.)"""
  return (run.folder / "results.json").exists()


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
  """Mean and sample standard deviation (divided by n - 1).

  Returns:
    {"n", "mean", "std"}: no mean of no values, and no deviation of fewer than two.
  """
  return {
    "n": len(values),
    "mean": statistics.fmean(values) if values else None,
    "std": statistics.stdev(values) if len(values) > 1 else None,
  }


def collect(plan: Plan, problems: Mapping[pathlib.Path, str], command: str) -> Summary:
  """Everything known so far, from the files of the run folders.

  Args:
    problems: folder of a run that did not end well -> why.
    command: the sweep's own, to be kept with its numbers.
  """
  runs = [_run(run, plan, problems.get(run.folder, "")) for run in plan.runs]
  rows = [_row(row, plan, runs) for row in plan.rows]
  if plan.baseline:
    values = {row["row"]: row["scores"][plan.scores[0]]["values"] for row in rows}
    for row in rows:
      row["paired"] = _paired(values[row["row"]], values[plan.baseline])
  return {
    "name": plan.config["name"],
    "command": command,
    "config": plan.config,
    "scores": list(plan.scores),
    "baseline": plan.baseline,
    "rows": rows,
    "runs": runs,
    "versions": _versions(runs),
  }


def _run(run: Run, plan: Plan, problem: str) -> dict[str, Any]:
  """One run: state, scores, and how they were made."""
  scores: dict[str, float] = {}
  about: dict[str, Any] = {}
  if finished(run):
    try:
      results = configs.read_json(run.folder / "results.json")
      scores = {name: _score(results, name) for name in plan.scores}
      about = configs.read_json(run.folder / "run.json")
    except ValueError as error:
      problem = problem or f"results.json: {error}"
  state = "finished" if scores else "failed" if problem else "waiting"
  return {
    "row": run.row,
    "seed": run.seed,
    "folder": str(run.folder),
    "arguments": list(run.arguments),
    "state": state,
    "problem": problem,
    "scores": scores,
    "seconds": about.get("seconds", {}),
    "command": about.get("command"),
    "versions": about.get("versions", {}),
    "devices": about.get("devices", []),
  }


def _score(results: Mapping[str, Any], name: str) -> float:
  """The number of "EVAL/METRIC"; ValueError where there is none."""
  entry, _, metric = name.partition("/")
  test = results.get("evals", {}).get(entry, {})
  if metric in localisation.SCORES:  # of all phrases, the first row
    found = test.get("localise", {}).get("rows", [{}])[0].get(metric)
  else:
    found = test.get("t2i", {}).get(metric)
  if isinstance(found, bool) or not isinstance(found, int | float):
    raise ValueError(f"holds no number for {name}")
  if not math.isfinite(found):
    raise ValueError(f"{name} is {found}")
  return float(found)


def _row(row: str, plan: Plan, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """One line of the table: every score over the seeds that have it."""
  own = [run for run in runs if run["row"] == row and run["state"] == "finished"]
  scores = {}
  for name in plan.scores:
    values = {str(run["seed"]): run["scores"][name] for run in own}
    scores[name] = {**spread(list(values.values())), "values": values}
  times = [run["seconds"]["train"] for run in own if "train" in run["seconds"]]
  return {
    "row": row,
    "n": len(own),
    "seeds": len(plan.seeds),
    "scores": scores,
    "seconds_train": spread(times),
  }


def _paired(
  own: Mapping[str, float], baseline: Mapping[str, float]
) -> dict[str, Any] | None:
  """Differences of the seeds that both rows have; None for the baseline itself."""
  if own is baseline:
    return None
  values = {seed: own[seed] - baseline[seed] for seed in own if seed in baseline}
  return {**spread(list(values.values())), "values": values}


def _versions(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
  """Library -> its versions among the finished runs: more than one is worth knowing."""
  found: dict[str, list[str]] = {}
  for run in runs:
    for library, version in run["versions"].items():
      if version not in found.setdefault(library, []):
        found[library].append(version)
  return found
