"""What a format cannot express, told before anything is written."""

from collections.abc import Mapping
from typing import Any


class ExportError(Exception):
  """An export is not possible as asked: says why, and what is."""


def check_patches(fields: Mapping[str, Any], library: str, *, square: bool) -> None:
  """Raises ExportError unless patches lie side by side (and are square, if asked)."""
  patch, stride = tuple(fields["patch"]), tuple(fields["stride"])
  if stride != patch:
    found = f"patches of {patch} with a stride of {stride}"
  elif square and patch[0] != patch[1]:
    found = f"patches of {patch}, which are not square"
  else:
    return
  raise ExportError(
    f"this model has {found} (height, width), which {library} cannot express: export it"
    " with --format=stablehlo, which holds the computation itself"
  )
