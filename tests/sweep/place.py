"""A folder for sweeps, whose runs are processes that do not train."""

import importlib
import json
import pathlib
import sys

from tpr_jax import config as configs
from tpr_jax.sweep import plan, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
CFAM = "configs/cfam.py"
R1 = {"A-seed0": 50.0, "B-seed0": 53.5, "A-seed1": 54.5, "B-seed1": 55.25}


def shipped(file):
  configs.expose_shipped()
  return importlib.import_module(f"configs.{file}")


def sweep_config(**fields):
  """Two rows and two seeds, unless told otherwise."""
  rows = [("A", CFAM, ()), ("B", f"{CFAM}:rendered", ("losses.matching=0",))]
  fields = dict(seeds=(0, 1), base=("train.steps=3",), baseline="A") | fields
  scores = fields.pop("scores", ("test/R1", "test_coarse/mAP"))
  rows = fields.pop("rows", rows)
  return shipped("common").sweep("two", rows, scores, **fields).lock()


class Place:
  """A folder for a sweep whose runs are tests/sweep/child.py."""

  def __init__(self, folder):
    self.folder, self.out = folder, folder / "out"
    self.book = folder / "book.json"

  def plan(self, **fields):
    return plan.build(sweep_config(**fields), self.out)

  def run(self, does=None, book=None, **fields):
    """-> exit status; `does` says what runs do other than finish."""
    made = self.plan(**fields)
    own = {r.folder.name: r.config for r in made.runs}
    scores = {name: R1.get(name, 40.0) for name in own}
    notes = dict(config=own, R1=scores, does=does or {}, **(book or {}))
    self.book.write_text(json.dumps(notes))
    return run.Sweep(made, self.command, "the command")()

  @property
  def command(self):
    return (sys.executable, str(ROOT / "tests" / "sweep" / "child.py"), str(self.book))

  def starts(self):
    """What the children noted, and an empty page for the next ones."""
    file = self.folder / "starts"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines

  def summary(self):
    return json.loads((self.out / "sweep.json").read_text())
