"""The second look at the first pictures of a search: what is kept of each, and packing.

What a second stage needs of a picture is kept in the store as float16, half of what it
was computed in: a score moves by some 1e-3 at most, and 100,000 pictures of CFAM B/16
(16 parts of 512) take 1.6 GB.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax.search.problems import SearchError

Shapes = Mapping[str, Sequence[int]]  # name -> shape, of one picture


@dataclasses.dataclass(frozen=True)
class Look:
  """What index.json says of it. by: the second stage; kept: what is kept."""

  by: str
  kept: Shapes

  def pack(self, arrays: Mapping[str, np.ndarray]) -> bytes:
    """One picture's arrays, shaped as `kept`.

    Raises:
      SearchError: a number that float16 cannot hold.
    """
    with np.errstate(over="ignore"):  # told below
      parts = [np.asarray(arrays[name]).astype("<f2") for name in sorted(self.kept)]
    if not all(np.isfinite(part).all() for part in parts):
      raise SearchError(
        f"what {self.by!r} keeps of a picture is not finite, or above 65,504: index"
        " without --second_stage"
      )
    return b"".join(part.tobytes() for part in parts)

  def unpack(self, data: bytes) -> dict[str, np.ndarray]:
    """float32 arrays."""
    found, start = {}, 0
    whole = np.frombuffer(data, "<f2")
    for name in sorted(self.kept):
      shape = tuple(self.kept[name])
      count = int(np.prod(shape))
      part = whole[start : start + count]
      found[name] = part.reshape(shape).astype(np.float32)
      start += count
    return found


def of(encoder: Mapping[str, Any]) -> Look | None:
  """What index.json says of its encoder -> its second look; None: it keeps nothing."""
  found = encoder.get("second_stage")
  return None if found is None else Look(found["by"], found["kept"])
