"""Fills a matrix: every model is loaded once, every test set built once.

What goes wrong with one model, test set or cell is told, kept in the table, and takes
no other cell with it. Cells are whole or absent, so nothing else is resumed.
"""

import contextlib
import dataclasses
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

from tpr_jax import config as configs
from tpr_jax import encoding, entries, evaluate, model_eval, run_folder, weights_id
from tpr_jax.core import lock as locks
from tpr_jax.core import sharding
from tpr_jax.core.times import duration
from tpr_jax.data import build as data_build
from tpr_jax.data.record import Dataset
from tpr_jax.matrix import cells, files, results, table
from tpr_jax.matrix.problems import Interrupted, MatrixError
from tpr_jax.matrix.settings import Column, Place, Row, Settings
from tpr_jax.metrics import msd


@dataclasses.dataclass(eq=False)
class Todo:
  """One cell of the matrix, and what became of it."""

  row: Row
  place: Place
  column: Column
  cell: cells.Cell | None = None  # None: the weights or the data are not known
  found: dict[str, Any] = dataclasses.field(default_factory=dict)  # results.json
  problem: str = ""


class Matrix:
  """A matrix and its folder.

  Args:
    settings: checked.
    out: the folder that everything is written to.

  Raises:
    MatrixError, ConfigError: `out` is a run's folder, or settings that cannot be.
  """

  def __init__(self, settings: Settings, out: pathlib.Path):
    self.settings, self.out = settings, out
    if (out / "config.json").exists() or (out / "results.json").exists():
      raise MatrixError(f"--out={out} holds the results of a run; give another folder")
    with configs.errors():
      self._mesh = sharding.make_mesh(settings.mesh)
      evaluate.bootstrap(settings.eval)
      _check(settings)
    self._data: dict[str, Dataset] = {}
    self._digests: dict[str, str] = {}
    self._identities: dict[Place, weights_id.WeightsId] = {}
    self.problems: dict[str, str] = {}  # "model ..." or "test set ..." -> what
    self.todo = [
      Todo(row, place, column)
      for row in settings.rows
      for place in row.places
      for column in settings.columns
    ]
    self._model: model_eval.Model | None = None
    self._encoders: dict[Any, encoding.Encoder] = {}
    self._times: list[float] = []

  def __call__(self) -> int:
    """Does what is missing; -> 0, or 1 when a cell could not be had.

    Raises:
      MatrixError: another process is at work in the folder.
      Interrupted: SIGINT or SIGTERM came; finished cells and tables are written.
    """
    caught: list[int] = []
    with self._alone(), _signals(caught):
      try:
        self._build_datasets()
        self._identify()
        self._fill()
      except KeyboardInterrupt:
        pass
    self._write(last=True)
    if caught:
      done = sum(bool(todo.found) for todo in self.todo)
      raise Interrupted(caught[0], done, len(self.todo))
    return int(any(todo.problem for todo in self.todo))

  # --- before the first model -----------------------------------------------------

  def _build_datasets(self) -> None:
    for column in self.settings.columns:
      started, entry = time.monotonic(), column.entry
      with self._caught(f"test set {column.label}"):
        data = data_build.dataset(
          entry["name"], entry["root"], entry["split"], entry["options"]
        )
        self._data[column.label] = data
        self._digests[column.label] = cells.data_digest(data)
        captions = sum(len(record.captions) for record in data.records)
        _say(
          f"test set {column.label}: {data.name}/{data.split},"
          f" {len(data.records):,} images, {captions:,} captions"
          f" ({duration(time.monotonic() - started)})"
        )

  def _identify(self) -> None:
    """Which weights are there, and which cells are finished."""
    for row in self.settings.rows:
      for place in row.places:
        with self._caught(_model_name(row, place)):
          self._identities[place] = weights_id.of(place.place)
    for todo in self.todo:
      self._look(todo)
    before = sum(bool(todo.found) for todo in self.todo)
    models = sum(len(row.places) for row in self.settings.rows)
    _say(
      f"{len(self.settings.rows)} rows ({models} models) x"
      f" {len(self.settings.columns)} test sets = {len(self.todo)} cells in {self.out}"
      + (f"; {before} finished before" if before else "")
    )

  def _look(self, todo: Todo) -> None:
    """Sets the cell, and takes what is finished."""
    row, place, column = todo.row, todo.place, todo.column
    model, data = _model_name(row, place), f"test set {column.label}"
    for name in (model, data):
      if name in self.problems:
        todo.problem = f"{name}: {self.problems[name]}"
        return
    todo.cell = cells.Cell(
      self.out / "cells" / row.folder / place.label / column.folder,
      column.folder,
      cells.key(
        digest=self._identities[place].digest,
        load=self.settings.load,
        entry=column.entry,
        data=self._digests[column.label],
        how=self.settings.eval,
      ),
    )
    todo.found, why = todo.cell.read()
    if why:
      _say(f"{_name(todo)} is done again: {why}")

  # --- the cells ------------------------------------------------------------------

  def _fill(self) -> None:
    for row in self.settings.rows:
      for place in row.places:
        own = [t for t in self.todo if t.place is place and t.row is row]
        waiting = [t for t in own if not t.found and not t.problem]
        if waiting:
          self._fill_model(waiting)
          self._write()

  def _fill_model(self, waiting: list[Todo]) -> None:
    """All of one model's cells that are not finished."""
    row, place = waiting[0].row, waiting[0].place
    name = _model_name(row, place)
    with self._caught(name):
      self._model = self._load(place)
    if name in self.problems:
      for todo in waiting:
        todo.problem = f"{name}: {self.problems[name]}"
      return
    for todo in waiting:
      self._fill_cell(todo)
    self._model = None  # two of them need not fit into memory

  def _load(self, place: Place) -> model_eval.Model:
    started, load = time.monotonic(), self.settings.load
    found = model_eval.Options(
      image_size=tuple(load["image_size"]) or None,
      text_length=load["text_length"] or None,
      tokenizer=load["tokenizer"],
      activation=load["activation"],
      dtype=load["dtype"],
    ).load(place.place)
    detail = f", {found.detail}" if found.detail else ""
    _say(
      f"{place.place}{detail}: {model_eval.described(found)}"
      f" ({duration(time.monotonic() - started)})"
    )
    return model_eval.Model(
      found,
      self._mesh,
      batch=self.settings.eval["batch"],
      threads=self.settings.threads,
      flip=self.settings.eval.get("flip", False),
      encoders=self._encoders,
    )

  def _fill_cell(self, todo: Todo) -> None:
    started, position = time.monotonic(), self.todo.index(todo) + 1
    head = f"[{position}/{len(self.todo)}] {_name(todo)}"
    what = f"{todo.row.label}, {todo.place.label}, {todo.column.label}"
    with self._caught(what):
      todo.found = self._score(todo)
      self._times.append(time.monotonic() - started)
      scores = todo.found["evals"][todo.cell.name]["t2i"]
      shown = ", ".join(f"{k} {scores[k]:.2f}" for k in self.settings.scores)
      _say(f"{head}: {shown} ({duration(self._times[-1])}){self._left(todo)}")
    todo.problem = self.problems.get(what, "")

  def _score(self, todo: Todo) -> dict[str, Any]:
    """Encodes, scores and writes one cell; -> its results.json."""
    model, data, started = self._model, self._data[todo.column.label], time.time()
    report = model.caption_report(data)
    if not report.startswith("0 of"):
      _say(f"  {_name(todo)}: {report}")
    with todo.cell.partial() as partial:
      scores = entries.score(
        todo.cell.name,
        model.encode(data),
        data,
        entry=todo.column.entry,
        how=self.settings.eval,
        mesh=self._mesh,
        folder=partial,
        say=_say,
      )
      found = dict(
        model=model.about(self._identities[todo.place]),
        selection=f"{todo.place.place}: {model.found.detail or 'as it is'}",
        msd_variant=self.settings.eval["msd_variant"],
        captions=report,
        evals=scores,
        made=dict(run_folder.provenance(), seconds=time.time() - started),
      )
      todo.cell.publish(partial, found)
    return found

  def _left(self, todo: Todo) -> str:
    after = self.todo[self.todo.index(todo) + 1 :]
    count = sum(not t.found and not t.problem for t in after)
    mean = sum(self._times) / len(self._times)
    return f"; {count} left, about {duration(mean * count)}" if count else ""

  # --- around them ----------------------------------------------------------------

  def _write(self, last: bool = False) -> None:
    """All tables; the pictures, and the table on screen, at the end alone."""
    summary = results.collect(self.settings, self.todo, self.problems)
    names = files.write(self.out, summary, pictures=last)
    if last:
      _say(f"\n{table.terminal(summary)}\n\n{self.out}: {', '.join(names)}")

  @contextlib.contextmanager
  def _caught(self, what: str) -> Iterator[None]:
    """Whatever goes wrong with `what` is told and kept; the others go on."""
    try:
      yield
    except Exception as error:
      told = str(error)
      if not type(error).__module__.startswith("tpr_jax"):  # not meant for people
        traceback.print_exc()
        told = f"{type(error).__name__}: {told}"
      self.problems[what] = told
      print(f"FAILED: {what}: {told}", file=sys.stderr, flush=True)

  @contextlib.contextmanager
  def _alone(self) -> Iterator[None]:
    try:
      with locks.alone(self.out / "matrix.lock", "matrix"):
        yield
    except locks.Locked as error:
      raise MatrixError(
        f"{self.out}: a matrix is still at work there; wait for it, or give another"
        " folder with --out=DIR"
      ) from error


@contextlib.contextmanager
def _signals(caught: list[int]) -> Iterator[None]:
  """SIGINT and SIGTERM end the work like Ctrl-C, and are noted."""

  def stop(signum: int, _: Any) -> None:
    caught.append(signum)
    raise KeyboardInterrupt

  numbers = (signal.SIGINT, signal.SIGTERM)
  previous = {number: signal.signal(number, stop) for number in numbers}
  try:
    yield
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def _check(settings: Settings) -> None:
  """ValueError for a kind of mSD that there is not."""
  variant = settings.eval["msd_variant"]
  if variant not in msd.VARIANTS:
    known = ", ".join(msd.VARIANTS)
    raise ValueError(f"--config.eval.msd_variant={variant!r}: expected one of {known}")


def _model_name(row: Row, place: Place) -> str:
  return f"model {place.place} ({row.label})"


def _name(todo: Todo) -> str:
  several = len(todo.row.places) > 1
  model = f"{todo.row.label} ({todo.place.label})" if several else todo.row.label
  return f"{model} on {todo.column.label}"


def _say(text: str) -> None:
  print(text, flush=True)
