"""The report of a run: one HTML page without any outside part, and its PNGs.

Everything is read from the files of the run folder (see `files.py`) and from the
evaluated datasets, which give captions and pictures. `report.html` works from a file,
offline, on paper and on a telephone; the pictures also lie in `report/` as PNG.
"""

import datetime
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tpr_jax import rankings
from tpr_jax.data.record import Dataset
from tpr_jax.report import (
  curves,
  files,
  heat,
  looks,
  pages,
  queries,
  sheet,
  spread,
  tables,
  word_sheet,
  words,
)
from tpr_jax.report.files import ReportError

__all__ = ["ReportError", "write"]

_SMALL = 4  # queries of `queries.png`


def write(
  run_dir: str | os.PathLike,
  datasets: Mapping[str, Dataset],
  *,
  seed: int = 0,
  shown: int = rankings.SHOWN,
  extremes: int = 4,
  word_data: Dataset | None = None,
) -> pathlib.Path:
  """Writes `RUN/report.html` and `RUN/report/*.png`; older ones are replaced.

  Args:
    run_dir: the run folder; must hold at least `results.json`.
    datasets: name of the evaluation -> the dataset it scored. One that is missing
      has no pictures, and the page says so.
    seed: draws the queries that are shown, so that none is picked by hand.
    shown: number of queries drawn at random for each evaluation.
    extremes: number of best and of worst queries for each evaluation.
    word_data: what the scores of words were taken from, for the pictures beside them,
      where it is not among `datasets`.

  Returns:
    Path of the page.

  Raises:
    ReportError: no results, or a file that cannot be understood or doesn't belong to
      the datasets; names it.
  """
  folder = pathlib.Path(run_dir)
  run = files.read(folder)
  out = folder / "report"
  out.mkdir(exist_ok=True)
  for old in out.glob("*.png"):
    old.unlink()
  sections, missing = _sections(run, datasets, seed, shown, extremes)
  told = _words(run, [*([word_data] if word_data else []), *datasets.values()], seed)
  missing = [*run.missing, *missing, *told.get("missing", ())]
  _write_sheets(out, sections, seed)
  _write_words(out, told)
  drawn = curves.draw(run)
  for curve in drawn:
    (out / f"{curve.name}.png").write_bytes(curve.light)
  spreads = [
    dict(name=name, figures=spread.draw(ranking), said=spread.remarks(ranking))
    for name, ranking in run.rankings.items()
  ]
  for part in spreads:
    for figure in part["figures"]:
      name = f"{figure.name}_{pages.file_name(part['name'])}.png"
      (out / name).write_bytes(figure.light)
  path = folder / "report.html"
  found = _page(run, drawn, sections, missing, seed)
  pages.write(path, "page.html", **found, spreads=spreads, words=told)
  return path


def _sections(
  run: files.RunFiles,
  datasets: Mapping[str, Dataset],
  seed: int,
  shown: int,
  extremes: int,
) -> tuple[list[dict[str, Any]], list[str]]:
  """(the evaluations whose pictures can be shown, sentences on what cannot)."""
  sections, missing = [], []
  for name, ranking in run.rankings.items():
    dataset = datasets.get(name)
    if dataset is None:
      missing.append(f"The data of {name!r} is not at hand: no pictures of it.")
    elif not len(ranking.query_record):
      missing.append(f"rankings/{name}.npz holds no query: no pictures.")
    else:
      path = run.folder / "rankings" / f"{name}.npz"
      queries.check(ranking, dataset, path)
      section = _section(name, ranking, dataset, seed, shown, extremes)
      saliency = run.saliency.get(name)
      if saliency is not None:
        pictures = queries.Pictures(dataset, saliency.size)
        section["weighed"], said = heat.gather(saliency, ranking, dataset, pictures)
        missing += [f"{name}: {sentence}" for sentence in said]
        section["broken"] |= pictures.broken
      if name in run.looks:
        found = _looked(run, name, dataset, seed)
        missing += [f"{name}: {sentence}" for sentence in found.pop("missing")]
        section["looked"] = found
      sections.append(section)
  for section in sections:
    broken = section["broken"].values()
    missing += [f"{section['name']}: cannot be shown: {why}" for why in broken]
  return sections, missing


def _looked(
  run: files.RunFiles, name: str, dataset: Dataset, seed: int
) -> dict[str, Any]:
  """What the page says of the phrases of one evaluation."""
  seen = run.looks[name]
  shown, missing = looks.gather(seen, dataset, seed)
  told = run.results["evals"][name].get("localise")
  data = f"{dataset.name}/{dataset.split}"
  return dict(
    about=looks.about(told) if told else "",
    rows=looks.rows(told) if told else [],
    columns=looks.COLUMNS,
    shown=shown,
    missing=missing,
    footer=f"Phrases of {data}, {name}: drawn with seed {seed}, and those with most and"
    f" least of their map in the true box (blue), of {len(seen.record):,}. Below: the"
    " share of the map inside, and how many times the box's share of the picture.",
  )


def _write_sheets(out: pathlib.Path, sections: list, seed: int) -> None:
  """PNGs of each evaluation: its random queries, and where its phrases look; and the
  small `queries.png`."""
  for section in sections:
    png = sheet.encode(sheet.draw(section["random"], section["footer"]))
    (out / f"queries_{pages.file_name(section['name'])}.png").write_bytes(png)
    looked = section["looked"]
    if looked and looked["shown"]:
      png = sheet.encode(looks.draw(looked["shown"], looked["footer"]))
      (out / f"looks_{pages.file_name(section['name'])}.png").write_bytes(png)
  if sections:
    few = rankings.spread(sections[0]["random"], _SMALL)
    footer = _footer(len(few), sections[0]["total"], sections[0]["name"], seed)
    (out / "queries.png").write_bytes(sheet.encode(sheet.draw(few, footer)))


def _words(run: files.RunFiles, datasets: list[Dataset], seed: int) -> dict[str, Any]:
  """What the page says of words and their scores; {}: the run has none."""
  curve, found = words.curve(run.words), run.word_scores
  if curve is None and found is None:
    return {}
  told = dict(curve=curve, table=[], notes=[], drawn=None)
  if found is None:
    return told
  drawn = words.gather(found, datasets, seed)
  which = "captions with a wrong word" if drawn.noisy else "captions"
  told["footer"] = (
    f"{len(drawn.shown)} of {drawn.total:,} {which} ({found.data}, step"
    f" {found.step:,}), drawn at random with seed {seed}. Every word has the mean score"
    " of its tokens; every row is scaled to its own lowest and highest."
  )
  told |= dict(
    table=words.table(found),
    notes=words.notes(found),
    level=f"{found.level:.0%}".replace("%", " %"),
    drawn=drawn,
    missing=drawn.missing,
  )
  return told


def _write_words(out: pathlib.Path, told: Mapping[str, Any]) -> None:
  """`word_auc.png` and `words.png`, of what there is."""
  if told.get("curve") is not None:
    (out / f"{told['curve'].name}.png").write_bytes(told["curve"].light)
  if told.get("drawn") is not None and told["drawn"].shown:
    page = word_sheet.draw(told["drawn"].shown, told["footer"])
    (out / "words.png").write_bytes(sheet.encode(page))


def _footer(shown: int, total: int, name: str, seed: int) -> str:
  return (
    f"{shown} of {total:,} queries ({name}), drawn at random with seed {seed}."
    " Green ✓: the right person; red ✗: somebody else."
  )


def _section(name, ranking, dataset, seed, shown, extremes) -> dict[str, Any]:
  """The queries of one evaluation: drawn at random, best and worst."""
  pictures = queries.Pictures(dataset)
  gather = lambda chosen: queries.gather(chosen, ranking, dataset, pictures)
  total = len(ranking.query_record)
  drawn = gather(queries.choose_random(ranking, shown, seed))
  best, worst = (gather(rows) for rows in queries.choose_extremes(ranking, extremes))
  return dict(
    name=name,
    data=f"{dataset.name}/{dataset.split}",
    total=total,
    random=drawn,
    best=best,
    worst=worst,
    twins=any(hit.twin for query in drawn + best + worst for hit in query.hits),
    footer=_footer(len(drawn), total, name, seed),
    weighed=[],
    looked=None,
    broken=pictures.broken,
  )


def _page(run: files.RunFiles, drawn, sections, missing, seed) -> dict[str, Any]:
  """What the template shows."""
  results = run.results
  table = tables.rows(results)
  shown = tables.columns(table)
  return dict(
    title=run.folder.resolve().name,
    subtitle=_subtitle(run.config),
    cards=[row for row in table if row.kind == "eval"],
    columns=shown,
    rows=table,
    cell=tables.cell,
    span=tables.span,
    notes=tables.remarks(results),
    missing=missing,
    curves=drawn,
    sections=sections,
    seed=seed,
    facts=_facts(run),
    config=sorted(_flat(run.config)),
    has_chance="chance" in shown,
  )


def _subtitle(config: Mapping[str, Any]) -> str:
  data = config.get("data")
  parts = [
    config.get("name"),
    data.get("name") if isinstance(data, Mapping) else None,
  ]
  return " on ".join(str(part) for part in parts if part)


def _facts(run: files.RunFiles) -> list[tuple[str, str]]:
  """(label, text) lines on how the numbers were made; only those that are known."""
  about, results = run.run, run.results
  found = [("Selection", results.get("selection"))]
  found.append(("Selected step", _count(results.get("selected_step"))))
  found.append(("Command", about.get("command")))
  found.append(("Seed", _count(about.get("seed"))))
  found.append(("Parameters", _count(about.get("parameters"))))
  found.append(("Devices", _counted(about.get("devices") or [])))
  found.append(("Started", _moment(about.get("started"))))
  found.append(("Finished", _moment(about.get("finished"))))
  for phase, seconds in (about.get("seconds") or {}).items():
    found.append((f"Time: {phase}", _duration(seconds)))
  versions = about.get("versions") or {}
  found.append(("Versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
  return [(label, str(text)) for label, text in found if text not in (None, "")]


def _count(value: Any) -> str | None:
  return f"{value:,}" if isinstance(value, int) else value


def _counted(names: list) -> str:
  """["cpu:cpu", "cpu:cpu"] -> "2 × cpu:cpu"."""
  kinds = dict.fromkeys(str(name) for name in names)
  number = {kind: sum(str(name) == kind for name in names) for kind in kinds}
  return ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in number.items())


def _moment(text: Any) -> Any:
  try:
    return (
      datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    )
  except (TypeError, ValueError):
    return text  # shown as it stands


def _duration(seconds: float) -> str:
  if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
    return str(seconds)
  if seconds < 60:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
  """Nested config -> ("optim.lr", "1e-05") lines."""
  if isinstance(value, Mapping) and value:
    return [
      line
      for key, below in value.items()
      for line in _flat(below, f"{name}.{key}" if name else str(key))
    ]
  return [(name, "{}" if value == {} else str(value))] if name else []
