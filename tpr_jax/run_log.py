"""What a run tells: a progress bar or plain lines, `metrics.jsonl`, TensorBoard.

`metrics.jsonl` has one JSON object a line: {"step", "kind": "train" | "val", numbers};
kind "legacy" also has the "entry" of config.evals that was scored; kind "words" says
how well scores of words find the wrong ones (word_files.py).
On resume, lines after the resumed step are dropped, so steps neither repeat nor gap.
"""

import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from tpr_jax.core import storage
from tpr_jax.core.times import duration
from tpr_jax.meter import Meter

_SLOW_INPUT = 0.05  # share of the time from which on waiting for input is told


class RunLog:
  """Writes one run's numbers; only `main` processes (`active`) write at all.

  Args:
    folder: the run folder; `metrics.jsonl` and `tensorboard/` are made in it.
    first_step: the step the run (re)starts from.
    steps: the step the run ends at.
    meter: how fast the steps are.
    active: False for every process but the first: nothing is written or printed.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    first_step: int,
    steps: int,
    meter: Meter,
    active: bool = True,
  ):
    self._active, self._folder = active, folder
    self.meter, self._steps, self._step = meter, steps, first_step
    self._started, self._first_step = time.perf_counter(), first_step
    meter.restart()
    if not active:
      return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    _drop_after(path, first_step)
    self._file = path.open("a", encoding="utf-8")
    self._board = SummaryWriter(
      str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None
    )
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm(
        total=steps, initial=first_step, unit="step", dynamic_ncols=True, leave=True
      )

  def train(self, step: int, numbers: Mapping[str, float]) -> None:
    """Logs the training numbers of the steps up to `step`."""
    if not self._active:
      return
    found = self.meter.read(step - self._step)
    self._step = step
    self._record(step, "train", {**numbers, **found})
    said = f"loss {numbers['loss']:.4f}  lr {numbers['lr']:.2e}  {_pace(found)}"
    if self._bar is not None:
      self._bar.update(step - self._bar.n)
      self._bar.set_postfix_str(said)
      return
    spent = time.perf_counter() - self._started
    left = spent / max(step - self._first_step, 1) * (self._steps - step)
    print(f"step {step}/{self._steps}  {said}  {duration(left)} left", flush=True)

  def validation(self, step: int, numbers: Mapping[str, float]) -> None:
    """Logs the validation scores at `step`."""
    self._record(step, "val", numbers)
    scores = "  ".join(
      f"{key} {value:.2f}" for key, value in numbers.items() if key in ("R1", "mAP")
    )
    self.say(f"step {step}: validation {scores}")

  def legacy(self, step: int, entry: str, numbers: Mapping[str, float]) -> None:
    """Logs the scores of a test at `step`; nothing is selected by them."""
    self._record(step, "legacy", dict(numbers, entry=entry))

  def words(self, step: int, numbers: Mapping[str, float]) -> None:
    """Logs at `step` how well scores of words find wrong ones; auc_KIND is also said.

    What is not finite is left out: an area without a wrong word is undefined.
    """
    known = {key: value for key, value in numbers.items() if math.isfinite(value)}
    self._record(step, "words", known)
    areas = "  ".join(
      f"{key.removeprefix('auc_')} {value:.3f}"
      for key, value in known.items()
      if key.startswith("auc_")
    )
    self.say(f"step {step}: AUC of wrong words {areas or 'undefined'}")

  def say(self, text: str) -> None:
    """Prints a line without breaking the progress bar."""
    if not self._active:
      return
    if self._bar is not None:
      self._bar.write(text)
    else:
      print(text, flush=True)

  def _record(self, step: int, kind: str, numbers: Mapping[str, Any]) -> None:
    if not self._active:
      return
    line = {"step": step, "kind": kind, **numbers}
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    where = f"{kind}/{numbers['entry']}" if "entry" in numbers else kind
    for key, value in numbers.items():
      if isinstance(value, (int, float)) and math.isfinite(value):
        self._board.add_scalar(f"{where}/{key}", value, step)

  def sync(self) -> None:
    """Everything said so far is in the files, and those of a run on object storage are
    there: a checkpoint that follows is never ahead of the log."""
    if self._active:
      self._board.flush()
      storage.send(self._folder)

  def close(self) -> None:
    if not self._active:
      return
    if self._bar is not None:
      self._bar.close()
    self._file.close()
    self._board.close()


def _pace(found: Mapping[str, float]) -> str:
  """What a line says of `Meter.read`."""
  said = f"{found['examples_per_second']:.0f} examples/s"
  if "flop_utilisation" in found:
    said += f", {found['flop_utilisation']:.0%} of peak"
  if found["input_wait"] >= _SLOW_INPUT:
    said += f", {found['input_wait']:.0%} waiting for input"
  return said


def best_legacy(folder: pathlib.Path, select: str) -> dict[str, dict[str, float]]:
  """Entry -> its scores, and "step", where `select` was best; the first of equals."""
  path, best = folder / "metrics.jsonl", {}
  lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  for text in lines:
    try:
      line = json.loads(text)
    except ValueError:
      break  # a kill can cut the last line
    if line["kind"] == "legacy":
      entry = line.pop("entry")
      if entry not in best or line[select] > best[entry][select]:
        best[entry] = {key: value for key, value in line.items() if key != "kind"}
  return best


def _drop_after(path: pathlib.Path, step: int) -> None:
  """Keeps the whole lines of `path` up to `step` (a kill can cut the last line)."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text(encoding="utf-8").splitlines():
    try:
      if json.loads(line)["step"] <= step:
        kept.append(line)
    except (ValueError, KeyError, TypeError):
      break
  partial = path.with_suffix(".tmp")
  partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
  os.replace(partial, path)
