"""What the cells of a matrix gave: mean and spread over the models of each row."""

from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax.core import text
from tpr_jax.matrix.settings import Column, Row, Settings
from tpr_jax.metrics import per_query
from tpr_jax.sweep.results import spread

Summary = dict[str, Any]  # what matrix.json holds
ALL = ""  # the name of "all queries" among the groups
T2I, I2T = "t2i", "i2t"


def collect(
  settings: Settings, todo: Sequence[Any], problems: Mapping[str, str]
) -> Summary:
  """Everything known so far.

  Args:
    todo: the cells (run.Todo), finished or not.
    problems: what could not be had -> why.

  Returns:
    {"rows": [{"row", "own", "models", "cells": {column: {direction: {group: {score:
    {"n", "mean", "std", "values": {model: value}, "ci": [low, high]?}}}}}}], ...}; the
    group of all queries is "". "ci" is there where one model alone has the cell.
  """
  rows = []
  for row in settings.rows:
    own = [t for t in todo if t.row is row]
    cells = {
      column.label: _cell([t for t in own if t.column is column])
      for column in settings.columns
    }
    models = [_model(place, own) for place in row.places]
    rows.append(dict(row=row.label, own=row.own, models=models, cells=cells))
  finished = [t.found for t in todo if t.found]
  return dict(
    name=settings.config["name"],
    title=settings.title,
    command=text.command(),
    config=dict(settings.config),
    columns=[_column(column, todo) for column in settings.columns],
    scores=list(settings.scores),
    decimals=settings.decimals,
    rows=rows,
    cells=len(todo),
    finished=len(finished),
    problems=dict(problems),
    versions=_versions(finished),
    remarks=remarks(settings, todo, problems),
  )


def _column(column: Column, todo: Sequence[Any]) -> dict[str, Any]:
  """Its entry, and the sizes that its cells found."""
  found = next((_scores(t) for t in todo if t.column is column and t.found), {})
  sizes = {name: found.get(T2I, {}).get(name) for name in ("queries", "gallery")}
  return dict(column=column.label, entry=dict(column.entry), **sizes)


def _model(place: Any, own: Sequence[Any]) -> dict[str, Any]:
  """One model of a row: where, which, and all of its numbers by column."""
  mine = [t for t in own if t.place is place]
  about = next((t.found["model"] for t in mine if t.found), {})
  return dict(
    model=place.label,
    place=place.place,
    about=about,
    cells={
      t.column.label: dict(
        problem=t.problem,
        folder=str(t.cell.folder) if t.found else None,
        **(_scores(t) if t.found else {}),
      )
      for t in mine
    },
  )


def _scores(todo: Any) -> dict[str, Any]:
  return todo.found["evals"][todo.cell.name]


def parts(scores: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
  """(direction, group) -> numbers, of one evaluation of results.json."""
  found = {(T2I, ALL): scores[T2I]}
  found |= {(T2I, group): n for group, n in (scores.get("groups") or {}).items()}
  if scores.get(I2T):
    found[I2T, ALL] = scores[I2T]
  return found


def _cell(models: Sequence[Any]) -> dict[str, Any]:
  """One cell of the table: every score over the models that have it."""
  by_part: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
  for todo in models:
    for part, numbers in parts(_scores(todo)).items() if todo.found else ():
      by_part.setdefault(part, {})[todo.place.label] = numbers
  cell: dict[str, Any] = {}
  for (direction, group), found in by_part.items():
    numbers = {score: _spread(score, found) for score in per_query.SCORES}
    cell.setdefault(direction, {})[group] = numbers
  return cell


def _spread(score: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  values = {model: numbers[score] for model, numbers in found.items()}
  summary = {**spread(list(values.values())), "values": values}
  if len(values) == 1:
    ((_, numbers),) = found.items()
    ends = ((numbers.get("ci") or {}).get("scores") or {}).get(score)
    summary |= {"ci": list(ends)} if ends else {}
  return summary


def _versions(finished: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
  """Library (and "devices") -> what the cells were made with: more than one is worth
  knowing."""
  seen: dict[str, list[str]] = {}
  for found in finished:
    made = dict(found["made"]["versions"], devices=", ".join(found["made"]["devices"]))
    for library, version in made.items():
      if version not in seen.setdefault(library, []):
        seen[library].append(version)
  return seen


def remarks(
  settings: Settings, todo: Sequence[Any], problems: Mapping[str, str]
) -> list[str]:
  """What has to be said beside the numbers, one sentence each."""
  counts = [sum(bool(t.found) for t in todo if t.row is row and t.column is column)
            for row in settings.rows for column in settings.columns]  # fmt: skip
  found = []
  if max(counts) > 1:
    found.append("±: sample standard deviation (n - 1) over the models of a row.")
  if 1 in counts and settings.eval["ci_resamples"]:
    found.append(
      f"[low–high], where a row has one model: {100 * settings.eval['ci_level']:g} %"
      f" interval by bootstrap of the identities, {settings.eval['ci_resamples']:,}"
      " resamples; it does not cover another training seed."
    )
  if any(row.own for row in settings.rows):
    found.append("*: the row's own test set.")
  for row in settings.rows:
    found += _about_row(row, [t for t in todo if t.row is row])
  for column in settings.columns:
    found += _about_column(column, [t for t in todo if t.column is column and t.found])
  waiting = sum(not t.found and not t.problem for t in todo)
  if waiting:
    found.append(f"{waiting} of {len(todo)} cells are not finished.")
  found += [f"Failed: {what}: {_short(why)}" for what, why in problems.items()]
  for library, versions in _versions([t.found for t in todo if t.found]).items():
    if len(versions) > 1:
      found.append(f"The cells differ in {library}: {'; '.join(versions)}.")
  return found


def _about_row(row: Row, own: Sequence[Any]) -> list[str]:
  """Doubts about its models: copies, runs on the way, texts that were cut."""
  found, digests = [], {}
  for place in row.places:
    mine = [t for t in own if t.place is place and t.found]
    name = f"{row.label}, {place.label}" if len(row.places) > 1 else row.label
    for todo in mine:
      if not todo.found["captions"].startswith("0 of"):
        found.append(f"{name} on {todo.column.label}: {todo.found['captions']}.")
    if not mine:
      continue
    about = mine[0].found["model"]
    if not about["finished"]:
      found.append(f"{name}: the run is not finished; scored as it is ({place.place}).")
    other = digests.setdefault(about["digest"], place)
    if other is not place:
      found.append(
        f"{row.label}: {other.place} and {place.place} are the same weights."
      )
  return found


def _about_column(column: Column, own: Sequence[Any]) -> list[str]:
  """What its finished cells left out: the same for every model."""
  if not own:
    return []
  scores, found = _scores(own[0]), []
  lost = scores[T2I]["unmatched"]
  if lost:
    found.append(
      f"{column.label}: {lost:,} queries have no match in the gallery and are left out."
    )
  says = scores.get("incomplete", {}).get("says", ())
  found += [f"{column.label}: {sentence}." for sentence in says]
  if scores["broken_images"] and not says:  # scored before there was "incomplete"
    found.append(
      f"{column.label}: {scores['broken_images']:,} images could not be read and are"
      " not in the gallery."
    )
  if column.entry["note"]:
    found.append(f"{column.label}: {column.entry['note']}")
  return found


def _short(text: str) -> str:
  """The first line of an error."""
  first = text.strip().partition("\n")[0]
  return first if len(first) < 300 else f"{first[:297]}..."
