"""What can go wrong while a set is built."""

import signal


class CurateError(Exception):
  """The set cannot be built: says what was found and how to mend it."""


class Interrupted(Exception):
  """A signal came; every answer that had arrived is kept. `signum` says which."""

  def __init__(self, signum: int, kept: int):
    name = signal.Signals(signum).name
    super().__init__(f"stopped by {name}; {kept:,} answers are kept")
    self.signum = signum


class Stopped(Exception):
  """Nobody waits for this answer any more (an interruption, or an error elsewhere)."""


class NoAnswer(Exception):
  """One request was not answered, whatever was tried.

  Attributes:
    hopeless: the others will not be answered either (a wrong key or model).
  """

  def __init__(self, message: str, *, hopeless: bool = False):
    super().__init__(message)
    self.hopeless = hopeless
