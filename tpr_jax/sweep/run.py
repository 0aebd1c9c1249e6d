"""Runs a sweep: a process for every run that is not finished, and the table so far.

A run that crashes, or is killed for its memory, takes no other one with it. Everything
that is known between two starts is in the run folders: nothing else is resumed.
"""

import os
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Sequence

from tpr_jax import config as configs
from tpr_jax.core.times import duration
from tpr_jax.sweep import picture, results, table
from tpr_jax.sweep.plan import Plan, Run
from tpr_jax.sweep.processes import Child, Interrupted, Signals, alone

COMMAND = (sys.executable, "-m", "tpr_jax.main")
_POLL = 0.1  # seconds between two looks at the processes


class Sweep:
  """Runs a plan.

  Args:
    plan: checked.
    command: the program that is given each run's arguments.
    words: how this sweep was asked for, to be kept beside its numbers.
  """

  def __init__(self, plan: Plan, command: Sequence[str] = COMMAND, words: str = ""):
    self.plan, self._command, self._words = plan, command, words
    self._problems: dict[pathlib.Path, str] = {}
    self._times: dict[pathlib.Path, float] = {}
    self._active: list[Child] = []
    self._waiting: list[Run] = []

  def __call__(self) -> int:
    """Runs what is not finished; -> 0, or 1 when a run has failed.

    Writes sweep.json, sweep.md and sweep.png into the folder of the sweep.

    Raises:
      SweepError: another process is at work in the folder.
      Interrupted: a signal came; every running run has ended before.
    """
    with alone(self.plan.folder) as lock, Signals() as signals:
      self._waiting = [run for run in self.plan.runs if not results.finished(run)]
      self._announce()
      try:
        self._run_all(lock, signals)
      finally:  # nothing is left behind, whatever went wrong here
        for child in self._active:
          child.end()
      summary = self._write(last=True)
      if signals.caught:
        done = sum(run["state"] == "finished" for run in summary["runs"])
        raise Interrupted(signals.caught[0], done, len(self.plan.runs))
    return int(any(run["problem"] for run in summary["runs"]))

  def _run_all(self, lock: int, signals: Signals) -> None:
    """Until nothing is left, or until those at work have ended after a signal."""
    heard = 0
    while self._active or (self._waiting and not signals.caught):
      while self._may_start() and not signals.caught:
        self._start(lock)
      if len(signals.caught) > heard:
        heard = len(signals.caught)
        self._tell(signals.caught)
      time.sleep(_POLL)
      for child in [c for c in self._active if c.process.poll() is not None]:
        self._ended(child, bool(signals.caught))

  def _announce(self) -> None:
    plan, total = self.plan, len(self.plan.runs)
    done = total - len(self._waiting)
    begun = sum((run.folder / "config.json").exists() for run in self._waiting)
    print(
      f"{len(plan.rows)} rows x {len(plan.seeds)} seeds = {total} runs in {plan.folder}"
      + (f"; {done} finished before" if done else "")
      + (f"; {begun} begun before" if begun else ""),
      flush=True,
    )

  def _may_start(self) -> bool:
    return bool(self._waiting) and len(self._active) < self.plan.jobs

  def _start(self, lock: int) -> None:
    run = self._waiting.pop(0)
    self._active.append(Child(run, self._command, lock))
    print(f"{self._count(run)}: {self._active[-1].log}", flush=True)

  def _count(self, run: Run) -> str:
    return f"[{self.plan.runs.index(run) + 1}/{len(self.plan.runs)}] {run.label}"

  def _tell(self, caught: Sequence[int]) -> None:
    for child in self._active:
      child.pass_on(caught)
    name = signal.Signals(caught[-1]).name
    print(
      f"{name}: passed on to {len(self._active)} run(s), which save and leave; again:"
      " at once, without saving",
      file=sys.stderr,
      flush=True,
    )

  def _ended(self, child: Child, stopping: bool) -> None:
    """Says how a run ended, and shows the table so far."""
    self._active.remove(child)
    run, problem = child.run, child.problem()
    done = results.finished(run)
    if done:
      self._times[run.folder] = child.seconds
    if problem and (done or not stopping):
      self._problems[run.folder] = problem
    if not problem:
      how = f"finished in {duration(child.seconds)}"
    elif stopping and not done:
      how = f"stopped, to be continued ({problem})"
    else:
      how = "\n  ".join([f"FAILED: {problem}", *child.last_lines()])
    left = "" if stopping else self._left()
    print(f"{self._count(run)}: {how}{left}\n", flush=True)
    if not stopping and (self._waiting or self._active):
      print(table.terminal(self._write()) + "\n", flush=True)

  def _left(self) -> str:
    """An estimate of what is left, from the runs of the same row or of any."""
    count = len(self._waiting) + len(self._active)
    rows: dict[str, list[float]] = {}
    for run in filter(results.finished, self.plan.runs):
      rows.setdefault(run.row, []).append(self._seconds(run))
    if not count or not rows:
      return ""
    mean = statistics.fmean(time for times in rows.values() for time in times)
    expect = lambda run: statistics.fmean(rows.get(run.row, [mean]))
    seconds = sum(map(expect, self._waiting))
    seconds += sum(max(expect(c.run) - c.seconds, 0.0) for c in self._active)
    return f"; {count} left, about {duration(seconds / min(self.plan.jobs, count))}"

  def _seconds(self, run: Run) -> float:
    """What a finished run took: all of its parts, if it was interrupted."""
    parts = configs.read_json(run.folder / "run.json").get("seconds", {})
    return max(sum(parts.values()), self._times.get(run.folder, 0.0))

  def _write(self, last: bool = False) -> results.Summary:
    """sweep.json and sweep.md; at the end also sweep.png and the table on screen."""
    folder = self.plan.folder
    summary = results.collect(self.plan, self._problems, self._words)
    configs.write_json(folder / "sweep.json", summary)
    _replace(folder / "sweep.md", table.markdown(summary).encode())
    if last:
      print(table.terminal(summary))
      drawn = picture.draw(summary)
      if drawn is None:
        (folder / "sweep.png").unlink(missing_ok=True)
      else:
        _replace(folder / "sweep.png", drawn)
      names = "sweep.json, sweep.md" + ("" if drawn is None else ", sweep.png")
      print(f"\n{folder}: {names}", flush=True)
    return summary


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Whole or not at all."""
  partial = path.with_suffix(".tmp")
  partial.write_bytes(content)
  os.replace(partial, path)
