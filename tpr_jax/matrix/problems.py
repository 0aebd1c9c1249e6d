"""What can go wrong with a whole matrix; what goes wrong with one cell is in it."""

import signal


class MatrixError(Exception):
  """The matrix cannot be made: says what was found and how to mend it."""


class Interrupted(Exception):
  """A signal came; every finished cell is kept. `signum` says which."""

  def __init__(self, signum: int, done: int, total: int):
    name = signal.Signals(signum).name
    super().__init__(f"stopped by {name} with {done} of {total} cells finished")
    self.signum = signum
