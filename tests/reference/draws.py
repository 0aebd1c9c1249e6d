"""Random weights and texts for the towers of a CLIP, drawn by numpy.

The deviations are larger than CLIP's initial ones: attention is far from uniform, every
bias and position shows, and swapped leaves or signs change the outputs by their size.
"""

import re

import numpy as np

_TABLE = re.compile(r"(token|position|positional)_embedding(\.weight)?$")


def weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
  """float32 value of a parameter by its PyTorch name, OpenAI's or Hugging Face's."""
  if len(shape) < 2 or _TABLE.search(name):
    deviation = 0.3
  else:
    deviation = float(np.prod(shape[1:])) ** -0.5
  drawn = rng.normal(0.0, deviation, shape)
  if len(shape) == 1 and name.endswith("weight"):  # of a LayerNorm
    drawn = drawn + 1.0
  return drawn.astype(np.float32)


def texts(
  words: tuple[int, ...], length: int, vocabulary: int, rng: np.random.Generator
) -> np.ndarray:
  """int64 [len(words), length]: start, so many words, end (the highest id), then 0."""
  ids = np.zeros((len(words), length), np.int64)
  for row, count in enumerate(words):
    ids[row, 0], ids[row, count + 1] = vocabulary - 2, vocabulary - 1
    ids[row, 1 : count + 1] = rng.integers(1, vocabulary - 2, count)
  return ids
