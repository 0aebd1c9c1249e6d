"""What can go wrong with a whole plan; what goes wrong with one row is in its table."""

import signal


class PlanError(Exception):
  """The plan cannot be made: says what was found and how to mend it."""


class Interrupted(Exception):
  """A signal came; every finished row is kept. `signum` says which."""

  def __init__(self, signum: int, done: int, total: int):
    name = signal.Signals(signum).name
    super().__init__(f"stopped by {name} with {done} of {total} programs compiled")
    self.signum = signum
