"""Fills a plan: every program compiled in a process of its own, one after the other.

What cannot be compiled is named in its row and takes no other row with it. With a
folder, programs are kept there: the same command does what is missing.
"""

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax.core import lock as locks
from tpr_jax.core import text
from tpr_jax.core.times import duration
from tpr_jax.plan import chips, collectives, estimate, facts, page, programs, table
from tpr_jax.plan.problems import Interrupted, PlanError
from tpr_jax.plan.settings import Case, Settings

INSTALL = {"0.10": "libtpu==0.0.42.*", "0.11": "", "0.12": "libtpu==0.0.50.*"}


class Plan:
  """A table of cases.

  Args:
    config: of one run, unlocked or not; it is not changed.
    out: folder to keep the programs and the table in; None: print only.

  Raises:
    PlanError: no libtpu for a TPU, a dataset of unknown size, a folder of a run.
  """

  def __init__(self, config: ConfigDict, settings: Settings, out: pathlib.Path | None):
    self.config, self.settings, self.out = config, settings, out
    if any(place.chip for place in settings.slices):
      _need_libtpu()
    if out and ((out / "config.json").exists() or (out / "results.json").exists()):
      raise PlanError(f"--out={out} holds the results of a run; give another folder")
    self.classes, self._counted = facts.identities(config, settings.classes)
    self.rows: list[dict[str, Any]] = []
    self._fresh = 0

  def __call__(self) -> int:
    """Compiles what is missing, prints the table; -> 0, or 1 when a row failed.

    Raises:
      PlanError: another process is at work in the folder.
      Interrupted: SIGINT or SIGTERM came; finished programs are kept.
    """
    caught: list[int] = []
    cases = list(self.settings.cases())
    _say(f"{len(cases)} rows; {self.classes:,} identities ({self._counted})")
    if self.config.model.init_from:
      _say(
        f"  {self.config.model.init_from} is not read: its tokenizer is taken to be"
        " CLIP's and its settings the variant's; neither changes the plan of a CLIP"
      )
    with self._folder() as folder, _signals(caught):
      try:
        for number, case in enumerate(cases, 1):
          self.rows.append(self._row(case, f"[{number}/{len(cases)}] {case}", folder))
      except KeyboardInterrupt:
        pass
    self._finish()
    if caught:
      raise Interrupted(caught[0], len(self.rows), len(cases))
    return int(any(row["status"] == "failed" for row in self.rows))

  @contextlib.contextmanager
  def _folder(self) -> Iterator[pathlib.Path]:
    if self.out is None:
      with tempfile.TemporaryDirectory(prefix="tpr_jax_plan_") as folder:
        yield pathlib.Path(folder)
      return
    folder = self.out / "programs"
    try:
      with locks.alone(folder / "lock", "plan"):
        yield folder
    except locks.Locked as error:
      raise PlanError(f"another process is planning in {self.out}") from error

  # --- one row --------------------------------------------------------------------

  def _row(self, case: Case, name: str, folder: pathlib.Path) -> dict[str, Any]:
    """The first number of micro-batches that fits, or what went wrong with the last."""
    place = case.slice
    for pieces in case.micro_batches:
      answer = self._program(case, pieces, f"{name}, micro_batches {pieces}", folder)
      if answer["status"] != "does not fit":
        break
    return dict(
      slice=place.name,
      chips=place.chips,
      hbm=place.hbm,
      batch=case.batch,
      micro_batches=pieces,
      **answer,
    )

  def _program(
    self, case: Case, pieces: int, name: str, folder: pathlib.Path
  ) -> dict[str, Any]:
    config = self.config.copy_and_resolve_references().unlock()
    config.data.batch, config.train.micro_batches = case.batch, pieces
    program = programs.Program(
      folder, config, case.slice, self.classes, self.settings.effort
    )
    answer, started = program.read(), time.monotonic()
    if answer:
      _say(f"{name}: {_summary(answer)} (kept)")
      return answer
    _say(f"{name}: compiling ...")
    request = dict(config=configs.plain(config), slice=case.slice.name)
    request |= dict(classes=self.classes, answer=str(program.answer))
    request |= dict(text=str(program.text), effort=self.settings.effort)
    error = _compile(request, case.slice, folder)
    answer = program.read() or dict(status="failed", message=error)
    if answer["status"] == "failed":
      program.forget()
    _say(f"  {_summary(answer)} ({duration(time.monotonic() - started)})")
    return answer

  # --- the end --------------------------------------------------------------------

  def _finish(self) -> None:
    """Estimates, the table, and the files."""
    assume, found = self.settings.assumptions, []
    for row in self.rows:
      place, value = chips.parse(row["slice"]), None
      if row["status"] == "compiled":
        row["by_kind"] = table.by_kind(row)
        sent = [collectives.Collective(**one) for one in row["collectives"]]
        value = estimate.of(place, row["batch"], row, row["traffic"], sent, assume)
      row["estimate"] = value and value._asdict()
      found.append((place, row["batch"], value))
    for row, value in zip(self.rows, estimate.efficiencies(found), strict=True):
      row["efficiency"] = value
    for line in ("", *text.aligned(table.lines(self.rows), left=1), "", table.LEGEND):
      _say(line)
    made = page.Page(self.config, self.settings, self.rows, self.classes, self._counted)
    for line in made.notes():
      _say(f"  {line}")
    if self.out:
      self.out.mkdir(parents=True, exist_ok=True)
      configs.write_json(self.out / "plan.json", made.record())
      path = self.out / "plan.md"
      path.write_text(made.markdown(), encoding="utf-8")
      _say(f"\nWritten: {path}")


def _summary(answer: dict[str, Any]) -> str:
  if answer["status"] != "compiled":
    return f"{answer['status']}: {answer['message']}"
  memory = answer["memory"]
  return (
    f"{memory['needed'] / chips.GIB:.2f} GiB a device"
    f" (arguments {memory['arguments'] / chips.GIB:.2f},"
    f" temporaries {memory['temporaries'] / chips.GIB:.2f})"
  )


def _compile(request: dict, place: chips.Slice, folder: pathlib.Path) -> str:
  """Runs plan/program.py; -> its last line on stderr, for where it left no answer."""
  path = folder / "request.json"
  configs.write_json(path, request)
  command = [sys.executable, "-m", "tpr_jax.plan.program", str(path)]
  with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
    with subprocess.Popen(
      command, env=environment(place), stderr=errors, start_new_session=True
    ) as process:
      try:
        status = process.wait()
      except KeyboardInterrupt:
        process.kill()
        raise
    errors.seek(0)
    last = [line.strip() for line in errors.read().splitlines() if line.strip()]
  return f"the compiler's process ended with status {status}: {(last or ['-'])[-1]}"


def environment(place: chips.Slice) -> dict[str, str]:
  """Of the compiling process: no TPU client, and as many CPU devices as are planned."""
  found = dict(os.environ, JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1")
  # libtpu takes a lock as if it held a TPU: a second plan, or a run, may be at work.
  found["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  root = str(pathlib.Path(__file__).resolve().parent.parent.parent)
  found["PYTHONPATH"] = os.pathsep.join(filter(None, [root, found.get("PYTHONPATH")]))
  if place.chip is None:
    flag = "--xla_force_host_platform_device_count"
    given = [f for f in found.get("XLA_FLAGS", "").split() if not f.startswith(flag)]
    found["XLA_FLAGS"] = " ".join([*given, f"{flag}={place.chips}"])
  return found


def _need_libtpu() -> None:
  if importlib.util.find_spec("libtpu") is not None:
    return
  version = programs.versions()["jax"]
  wanted = INSTALL.get(".".join(version.split(".")[:2])) or "libtpu"
  raise PlanError(
    "planning for TPUs compiles with libtpu, which is not installed here; no TPU is"
    f" needed. Install it (640 MB): pip install '{wanted}'  (for JAX {version}), or"
    " look at memory and collectives on virtual CPU devices: --topology=cpu:8"
  )


@contextlib.contextmanager
def _signals(caught: list[int]) -> Iterator[None]:
  """SIGINT and SIGTERM raise KeyboardInterrupt once, and are noted."""
  before = {}

  def handle(signum, _frame):
    for number, previous in before.items():
      signal.signal(number, previous)
    caught.append(signum)
    raise KeyboardInterrupt

  for number in (signal.SIGINT, signal.SIGTERM):
    before[number] = signal.signal(number, handle)
  try:
    yield
  finally:
    for number, previous in before.items():
      signal.signal(number, previous)


def _say(line: str) -> None:
  print(line, flush=True)
