"""What can go wrong with a detector as a whole."""


class DetectorError(Exception):
  """It cannot be used so: says what was found, what is expected, and how to mend it."""
