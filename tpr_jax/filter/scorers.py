"""Models that score pairs, behind one interface.

A scorer brings pictures and texts to unit rows: Q for a picture, one for a text. Rows
of one picture or text do not depend on how many devices or processes there are, or
which others they are encoded with, but for their place within `batch`: so callers give
them in pieces whose beginning is a multiple of `batch`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tpr_jax.filter.settings import Scorer as Asked


class Scorer(Protocol):
  """Attributes:
  batch: rows encoded at a time on one device.
  size: (height, width) that a picture which is drawn is drawn at; None: its own.
  """

  batch: int
  size: tuple[int, int] | None

  def prepare(self, picture: np.ndarray | None) -> np.ndarray:
    """uint8 RGB [h, w, 3] -> what is stacked for `encode_images`; None: a blank.

    Called by several threads.
    """

  def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
    """N prepared pictures -> float32 [N, Q, D], unit rows."""

  def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
    """N texts -> float32 [N, D], unit rows."""

  def report(self, texts: Sequence[str]) -> str:
    """How many of the texts are cut, and to which length, as a line."""


def about(asked: Asked) -> dict[str, Any]:
  """Plain values that tell one scorer from another: the weights, not only their place.

  Raises:
    RunError, CheckpointError, ConfigError: a run without what it needs.
  """
  from tpr_jax import weights_id

  found = weights_id.of(asked.place)
  return dict(
    kind=asked.kind,
    weights=found.digest,
    step=found.step,
    batch=asked.batch,
    dtype=asked.dtype,
    **(dict(load=dict(asked.load)) if asked.kind == "towers" else {}),
  )


def build(asked: Asked) -> Scorer:
  """Loads the model. Raises what loading raises, and FilterError without torch."""
  if asked.kind == "towers":
    from tpr_jax.filter import towers

    return towers.Towers.load(asked)
  from tpr_jax.filter import blip2

  return blip2.Blip2.load(asked)
