"""What can go wrong with a filter as a whole."""


class FilterError(Exception):
  """The pairs cannot be filtered so: says what was found and how to mend it."""
