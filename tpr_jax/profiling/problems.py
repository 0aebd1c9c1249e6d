"""What can go wrong with a profile."""


class ProfileError(Exception):
  """It cannot be made so: says what was found and how to mend it."""
