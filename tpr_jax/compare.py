"""`--mode=compare --run=A --with=B`: two models on the same queries, score by score.

A and B are folders with `results.json` and `rankings/NAME.npz`: runs, or what
`--mode=eval --features=FILE --out=DIR` wrote. The intervals and p values are those of
metrics/uncertainty.py, by identity. Neither model nor features are needed, nor JAX; the
pictures of the page come from the dataset that a run's config names.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax import config as configs
from tpr_jax import eval_data, rankings
from tpr_jax import groups as grouping
from tpr_jax.core import text
from tpr_jax.data.record import Dataset, DatasetError
from tpr_jax.metrics import per_query, uncertainty
from tpr_jax.rankings import Ranked
from tpr_jax.report import comparison

Found = dict[str, Any]


class CompareError(Exception):
  """Two evaluations cannot be compared: says where they differ."""


def run(
  a: pathlib.Path,
  b: pathlib.Path,
  out: pathlib.Path,
  bootstrap: uncertainty.Bootstrap,
) -> Found:
  """Prints the table; writes compare.json, .md, .html and compare_NAME.png to `out`.

  Raises:
    CompareError: a folder without results, nothing in common, or queries, galleries
      or kinds of mSD that differ.
    RankingError: a file that cannot be read.
  """
  found = folders(a, b, bootstrap)
  print(table(found))
  out.mkdir(parents=True, exist_ok=True)
  configs.write_json(out / "compare.json", found)
  (out / "compare.md").write_text(markdown(found), encoding="utf-8")
  written = comparison.write(
    out, _sides(a, b), _lines(found), notes(found), (found["a"], found["b"])
  )
  print(f"\nWritten: {out / 'compare.json'}, {out / 'compare.md'}")
  print("Pictures: " + ", ".join(map(str, written)))
  return found


def _sides(a: pathlib.Path, b: pathlib.Path) -> list[comparison.Sides]:
  """Where the rankings of both are, and the data behind them."""
  pairs, _ = _pairs([_results(folder) for folder in (a, b)], (a, b))
  found = []
  for name, entries in pairs.items():
    places = list(zip((a, b), entries, strict=True))
    paths = tuple(folder / "rankings" / f"{entry}.npz" for folder, entry in places)
    found.append(comparison.Sides(name, paths, *_dataset(places)))
  return found


def _dataset(places: list[tuple[pathlib.Path, str]]) -> tuple[Dataset | None, str]:
  """The dataset by the first config that gives one; else None, and why not."""
  why = []
  for folder, entry in places:
    if not (folder / "config.json").is_file():
      continue
    try:
      config = configs.load(folder / "config.json")
      if entry in config.get("evals", {}):
        return eval_data.dataset(config, entry), ""
      why.append(f"{folder}/config.json has no evaluation {entry!r}")
    except (DatasetError, configs.ConfigError) as error:
      why.append(f"the data of {folder} are not at hand: {error}")
  return None, "; ".join(why) or (
    "neither folder is a run's, whose config would say where the images are"
  )


def folders(
  a: pathlib.Path, b: pathlib.Path, bootstrap: uncertainty.Bootstrap
) -> Found:
  """Compares every evaluation that both folders have, and the groups in it.

  Two folders with one evaluation each are compared whatever these are called. A folder
  given twice has its re-ranked lists (A) compared with its first rankings (B), where it
  has any.

  Returns:
    {"a", "b", "level", "resamples", "seed", "flips", "evals": {name: {"queries",
    "identities", "scores", "groups"}}, "remarks": [sentence, ...]}, where "scores" is
    {"R1": {"a", "b", "difference", "low", "high", "p", "exact"}, ...} in percent; a
    difference is a - b.

  Raises: as `run`.
  """
  results = [_results(folder) for folder in (a, b)]
  variants = [r.get("msd_variant", "paper") for r in results]
  if variants[0] != variants[1]:
    raise CompareError(
      f"mSD is {variants[0]!r} in {a} and {variants[1]!r} in {b}; score one of them"
      " again (--config.eval.msd_variant, or --msd_variant with --features)"
    )
  pairs, remarks = _pairs(results, (a, b))
  evals: dict[str, Found] = {}
  for name, (one, other) in pairs.items():
    ranked = [
      rankings.read(folder / "rankings" / f"{entry}.npz")
      for folder, entry in ((a, one), (b, other))
    ]
    remarks += _check_same(name, *ranked)
    evals[name] = _evaluation(name, *ranked, bootstrap)
    if not _same_groups(*ranked) and any(r.group is not None for r in ranked):
      remarks.append(f"{name}: not grouped alike in both, so no group is compared.")
  about = dict(
    level=bootstrap.level, resamples=bootstrap.resamples, seed=bootstrap.seed
  )
  return dict(
    a=str(a), b=str(b), **about, flips=uncertainty.FLIPS, evals=evals, remarks=remarks
  )


def _results(folder: pathlib.Path) -> Mapping[str, Any]:
  try:
    found = configs.read_json(folder / "results.json")
  except ValueError as error:
    raise CompareError(f"{folder}/results.json is not valid JSON: {error}") from error
  if not found.get("evals"):
    raise CompareError(
      f"{folder} has no results.json with evaluations: is it the folder of a run that"
      " was evaluated, or of --mode=eval --features=FILE --out=DIR?"
    )
  return found


def _pairs(
  results: list[Mapping[str, Any]], places: tuple[pathlib.Path, pathlib.Path]
) -> tuple[dict[str, tuple[str, str]], list[str]]:
  """(name -> (entry of A, entry of B), remarks on what only one of them has)."""
  same = places[0].resolve() == places[1].resolve()
  if same and (stages := _stages(results[0])):
    return stages, []
  names = [list(found["evals"]) for found in results]
  both = [name for name in names[0] if name in names[1]]
  if not both and len(names[0]) == len(names[1]) == 1:
    (one,), (other,) = names
    return {f"{one} / {other}": (one, other)}, []
  if not both:
    a, b = (", ".join(found) for found in names)
    raise CompareError(
      f"no evaluation in common: {places[0]} has {a}; {places[1]} has {b}"
    )
  remarks = [
    f"{name} is in {place} only: not compared."
    for found, place in zip(names, places, strict=True)
    for name in found
    if name not in both
  ]
  return {name: (name, name) for name in both}, remarks


def _stages(results: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
  """name -> (entry of re-ranked lists, entry of their first ranking), of one folder."""
  ends = {name: f"{name}{rankings.RERANKED}" for name in results["evals"]}
  return {f"{b} / {a}": (b, a) for a, b in ends.items() if b in results["evals"]}


def _check_same(name: str, a: Ranked, b: Ranked) -> list[str]:
  """Remarks on what could not be checked.

  Raises:
    CompareError: other queries or another gallery; names the first difference.
  """
  remarks = []
  for what, label, said in (
    ("query", "query", "texts"),
    ("gallery", "gallery item", "names of the images"),
  ):
    ids = "identity" if what == "query" else "gallery_identity"
    _check_equal(name, label, "identity", a, b, getattr(a, ids), getattr(b, ids))
    codes = [getattr(ranked, f"{what}_digest") for ranked in (a, b)]
    if all(code is not None for code in codes):
      _check_equal(name, label, said, a, b, *codes)
    else:
      lacking = [r.path for r, code in zip((a, b), codes, strict=True) if code is None]
      remarks.append(
        f"{name}: the {said} are not known to {' and '.join(map(str, lacking))}; only"
        " the identities were checked to be the same."
      )
  return remarks


def _check_equal(
  name: str, label: str, what: str, a: Ranked, b: Ranked, one: np.ndarray, other: Any
) -> None:
  if len(one) != len(other):
    raise CompareError(
      f"{name}: {len(one):,} times a {label} in {a.path}, {len(other):,} in {b.path};"
      " a comparison needs the same queries and gallery"
    )
  differ = np.flatnonzero(one.astype(np.str_) != other.astype(np.str_))
  if not len(differ):
    return
  first = differ[0]
  told = f"identity {one[first]} and {other[first]}"
  raise CompareError(
    f"{name}: {len(differ):,} of {len(one):,} differ, the first of them {label}"
    f" {first}: {told if what == 'identity' else f'other {what}'} ({a.path}, {b.path});"
    " a comparison needs the same queries and gallery, in the same order"
  )


def _evaluation(
  name: str, a: Ranked, b: Ranked, bootstrap: uncertainty.Bootstrap
) -> Found:
  """The scores of all queries with a match, and of each group that both know."""
  real = a.first_rank > 0  # the same in b: same identities, same gallery
  if not real.any():
    raise CompareError(f"{name}: no query has a match in the gallery")
  if (real != (b.first_rank > 0)).any():
    first = int(np.flatnonzero(real != (b.first_rank > 0))[0])
    raise CompareError(
      f"{name}: query {first} has a match in one of {a.path} and {b.path} only; one of"
      " the files is damaged, score the run again with --mode=eval"
    )
  found = _part(a, b, real, bootstrap)
  if _same_groups(a, b):
    found["groups"] = {
      group: _part(a, b, real & (column == group), bootstrap)
      for column in a.group.T
      for group in grouping.ordered(column[real].tolist())
      if group
    }
  return found


def _same_groups(a: Ranked, b: Ranked) -> bool:
  if a.group is None or b.group is None:
    return False
  return a.group.shape == b.group.shape and bool((a.group == b.group).all())


def _part(
  a: Ranked, b: Ranked, chosen: np.ndarray, bootstrap: uncertainty.Bootstrap
) -> Found:
  """{"queries", "identities", "scores"}; no interval and no p for one identity."""
  ids = a.identity[chosen]
  both = [_values(ranked, chosen) for ranked in (a, b)]
  names = [name for name in both[0] if name in both[1]]
  one, other = (np.stack([v[name] for name in names], axis=1) for v in both)
  means = zip(100 * one.mean(axis=0), 100 * other.mean(axis=0), strict=True)
  rows = [dict(a=float(x), b=float(y), difference=float(x - y)) for x, y in means]
  number = len(np.unique(ids))
  if number > 1:
    test = uncertainty.compare(one, other, ids, bootstrap)
    for i, row in enumerate(rows):
      row["difference"] = 100 * float(test.difference[i])
      row["low"], row["high"] = 100 * float(test.low[i]), 100 * float(test.high[i])
      row["p"], row["exact"] = float(test.p[i]), bool(test.exact[i])
  scores = dict(zip(names, rows, strict=True))
  return dict(queries=int(chosen.sum()), identities=number, scores=scores)


def _values(ranked: Ranked, chosen: np.ndarray) -> dict[str, np.ndarray]:
  columns = per_query.values(ranked.first_rank, ranked.ap, ranked.inp, ranked.sd)
  return {name: column[chosen] for name, column in columns.items()}


# --- what people read -------------------------------------------------------------


def _lines(found: Found) -> list[list[str]]:
  """A head and one line for every score: strings."""
  lines = [["", "score", "A", "B", "A - B", f"{_level(found)} interval", "p"]]
  for name, entry in found["evals"].items():
    parts = {name: entry, **{f"  {k}": v for k, v in entry.get("groups", {}).items()}}
    for label, part in parts.items():
      for place, (score, row) in enumerate(part["scores"].items()):
        ends = "–"
        if "low" in row:
          ends = f"[{row['low']:+.2f}, {row['high']:+.2f}]"
        cells = [f"{row['a']:.2f}", f"{row['b']:.2f}", f"{row['difference']:+.2f}"]
        lines.append(["" if place else label, score, *cells, ends, _p(row)])
  return lines


def _p(row: Mapping[str, Any]) -> str:
  return f"{row['p']:.4f}" if "p" in row else "–"


def _level(found: Found) -> str:
  return f"{100 * found['level']:g} %"


def notes(found: Found) -> list[str]:
  """What has to be said beside the numbers, one sentence each."""
  sizes = [
    f"{name}: {entry['queries']:,} queries of {entry['identities']:,} identities."
    for name, entry in found["evals"].items()
  ]
  alone = [
    f"{group or name}: all queries are of one identity, so there is no interval."
    for name, entry in found["evals"].items()
    for group, part in (("", entry), *entry.get("groups", {}).items())
    if part["identities"] < 2
  ]
  missing = [
    f"{name}: no {score}: a list that was ordered again by a second score has none."
    for name, entry in found["evals"].items()
    for score in per_query.SCORES
    if score not in entry["scores"]
  ]
  return [
    f"A is {found['a']}, B is {found['b']}; differences in points of percent.",
    *sizes,
    *alone,
    *missing,
    f"Intervals: bootstrap by identity, {found['resamples']:,} resamples, seed"
    f" {found['seed']}. p: two-sided sign-flip test by identity (exact, or"
    f" {found['flips']:,} random flips), not corrected for the number of comparisons."
    " Neither covers another training seed.",
    *found["remarks"],
  ]


def table(found: Found) -> str:
  """Plain text for a terminal."""
  return "\n".join([*text.aligned(_lines(found), left=2), "", *notes(found)])


def markdown(found: Found) -> str:
  """The same as a Markdown page."""
  head, *lines = ([text.escaped(cell) for cell in line] for line in _lines(found))
  rows = [head, ["---", "---", *["---:"] * (len(head) - 2)], *lines]
  body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
  said = "\n".join(f"- {text.escaped(note)}" for note in notes(found))
  return f"# Comparison\n\n{body}\n\n{said}\n"
