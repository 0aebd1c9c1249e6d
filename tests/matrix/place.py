"""Runs with drawn weights and a matrix small enough to be filled in seconds."""

import importlib
import json
import shutil

from tests import written_run
from tpr_jax import config as configs
from tpr_jax.matrix import run, settings

ENCODERS = {}


def shipped(argument=None):
  """The config of configs/matrix.py for an argument."""
  configs.expose_shipped()
  return importlib.import_module("configs.matrix").get_config(argument)


def config(rows, columns=("fine", "coarse"), **fields):
  """Ten people a column; `rows`: label -> places."""
  words = ",".join(f"{label}={places}" for label, places in rows.items())
  c = shipped(f"rendered,columns={'+'.join(columns)},{words}")
  for column in c.columns.values():
    column.options.update(identities=10, views=1)
  c.eval.batch, c.eval.ci_resamples = 16, 50
  c.update(fields)
  return c.lock()


def fill(config, out):
  """-> exit status."""
  made = run.Matrix(settings.read(config), out)
  made._encoders = ENCODERS  # compiled once for all tests
  return made()


def read(out, name="matrix.json"):
  return json.loads((out / name).read_text(encoding="utf-8"))


def cell(out, *parts):
  """results.json of one cell: row, model, column."""
  return read(out / "cells" / "/".join(parts), "results.json")


class Runs:
  """A folder of runs: `a` and `b` differ in their weights alone."""

  def __init__(self, folder):
    self.folder = folder
    self.config, _ = written_run.write(folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    shutil.rmtree(folder / "b" / "checkpoints" / "3")  # the better one

  def __getitem__(self, name):
    return str(self.folder / name)

  def copies(self, folder):
    """The same runs elsewhere, to be changed."""
    shutil.copytree(self.folder, folder)
    return {name: str(folder / name) for name in ("a", "b")}
