"""The processes of a sweep: one run each, the signals they get, one sweep a folder."""

import contextlib
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

from tpr_jax.core import lock as locks
from tpr_jax.sweep import results
from tpr_jax.sweep.plan import Run

_TAIL = 12  # lines of a failed run's log that are shown


class SweepError(Exception):
  """A sweep cannot be run here: says why."""


class Interrupted(Exception):
  """A signal was passed on, and the runs have saved and left. `signum` says which."""

  def __init__(self, signum: int, done: int, total: int):
    name = signal.Signals(signum).name
    super().__init__(f"stopped by {name} with {done} of {total} runs finished")
    self.signum = signum


class Signals:
  """Collects the signals that ask for an end; the loop passes them on."""

  def __enter__(self):
    self.caught: list[int] = []
    self._previous = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
        continue  # nohup
      handle = lambda signum, _: self.caught.append(signum)
      self._previous[number] = signal.signal(number, handle)
    return self

  def __exit__(self, *_):
    for number, previous in self._previous.items():
      signal.signal(number, previous)


class Child:
  """The process of one run, and its log."""

  def __init__(self, run: Run, command: Sequence[str], lock: int):
    self.run, self.log = run, run.folder / "log.txt"
    self._told, self.started = 0, time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    words = [*command, *run.arguments]
    with self.log.open("a", encoding="utf-8") as file:
      file.write(f"$ {shlex.join(words)}\n")
      file.flush()
      self._start = file.tell()
      # A process group of its own: Ctrl-C in a terminal would reach it beside our own
      # signal, and a second signal means "at once, without saving".
      self.process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        process_group=0,
        pass_fds=[lock],
      )

  @property
  def seconds(self) -> float:
    return time.monotonic() - self.started

  def pass_on(self, caught: Sequence[int]) -> None:
    """Sends the signals that it has not had yet; the third one ends any process."""
    for signum in caught[self._told :]:
      self._told += 1
      if self._told > 2:
        self.process.kill()
      else:  # a run saves at SIGINT and SIGTERM alone
        known = signum in (signal.SIGINT, signal.SIGTERM)
        self.process.send_signal(signum if known else signal.SIGTERM)

  def end(self) -> None:
    """Waits for the process to save and leave; asks it to, unless it has been told."""
    if not self._told:
      self.pass_on([signal.SIGTERM])
    self.process.wait()

  def problem(self) -> str:
    """Why the run of an ended process failed; "" if it did not."""
    code = self.process.returncode
    written = results.finished(self.run)
    if code == 0:
      return "" if written else f"it ended without results, see {self.log}"
    how = f"ended with exit code {code}"
    if code < 0:
      how = f"was killed by {signal.Signals(-code).name}"
      how += " (out of memory?)" if -code == signal.SIGKILL else ""
    return (
      f"{how}{' after its results were written' if written else ''}, see {self.log}"
    )

  def last_lines(self) -> list[str]:
    """The end of what this process wrote."""
    with self.log.open("rb") as file:
      file.seek(self._start)
      text = file.read().decode("utf-8", errors="replace")
    return text.splitlines()[-_TAIL:]


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[int]:
  """Descriptor of a lock on the sweep's folder.

  The runs inherit it, so that it also holds while one of them has outlived its sweep.

  Raises:
    SweepError: somebody else has it.
  """
  try:
    with locks.alone(folder / "sweep.lock", "sweep") as lock:
      yield lock
  except locks.Locked as error:
    raise SweepError(
      f"{folder}: a sweep, or a run that one has left behind, is still at work there."
      " Wait for it, or give another folder with --run=DIR."
    ) from error
