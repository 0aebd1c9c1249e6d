"""What can go wrong with an index or a search as a whole."""


class SearchError(Exception):
  """It cannot be indexed or searched so: says what was found and how to mend it."""


class AskedError(SearchError):
  """What was asked is wrong (a condition, a picture, words); the index is not."""


class ConditionError(AskedError):
  """A condition that cannot be read.

  Attributes:
    what: what is wrong with it, without the condition itself.
    at: the character where, from 1; None: no certain one.
  """

  def __init__(self, said: str, what: str, at: int | None = None):
    place = "" if at is None else f"at character {at}: "
    super().__init__(f"--where={said!r}: {place}{what}")
    self.what, self.at = what, at
