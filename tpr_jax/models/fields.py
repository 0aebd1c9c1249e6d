"""Checks of a model's fields that families share."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

DTYPES = ("float32", "bfloat16")
RESIDUALS = ("float32", "same")


def nearest(kind: str, name: Any, known: Iterable[str]) -> str:
  """What to say of an unknown name: the nearest known one, and all of them."""
  known = sorted(known)
  close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  return f"model: unknown {kind} {name!r}{hint} Known: {', '.join(known)}"


def pair(field: str, value: Any) -> tuple[int, int]:
  """An int or two ints -> (height, width). Raises ValueError for anything else."""
  found = (value, value) if isinstance(value, int) else tuple(value)
  if len(found) != 2 or not all(isinstance(v, int) and v > 0 for v in found):
    raise ValueError(
      f"model: {field}={value!r}; expected a positive int or (height, width)"
    )
  return found


def pixels(field: str, value: Any) -> tuple[float, float, float]:
  """Three numbers, R, G, B. Raises ValueError for anything else."""
  found = tuple(float(number) for number in value)
  if len(found) != 3:
    raise ValueError(f"model: {field}={found}; expected three numbers (R, G, B)")
  return found


def check_dtypes(fields: Mapping[str, Any]) -> None:
  """Raises ValueError where "dtype" or "residual" is none of those that there are."""
  for name, known in (("dtype", DTYPES), ("residual", RESIDUALS)):
    if fields[name] not in known:
      raise ValueError(nearest(name, fields[name], known))


def stream(fields: Mapping[str, Any]) -> str:
  """The dtype of the residual streams, which blocks add to: "residual", spelt out."""
  return fields["dtype"] if fields["residual"] == "same" else fields["residual"]
