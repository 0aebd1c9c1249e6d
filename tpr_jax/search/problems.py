"""What can go wrong with an index or a search as a whole."""


class SearchError(Exception):
  """It cannot be indexed or searched so: says what was found and how to mend it."""
