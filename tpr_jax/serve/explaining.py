"""Where the words fit on a picture: what their cosine loses where a part is covered.

The occlusion of saliency.py, asked of the encoder that made the index: nothing is
learnt for it, and weights need not add up to the cosine (of two parts that say the
same, neither is much missed). Each word is left out, and each part covered, once.
"""

import dataclasses
import pathlib

import numpy as np

from tpr_jax import saliency
from tpr_jax.search.answer import Stored
from tpr_jax.search.encoder import Encoder
from tpr_jax.serve import limits, views
from tpr_jax.serve.problems import Refused


@dataclasses.dataclass(frozen=True)
class Explained:
  """Attributes:
  cosine: of the whole sentence and the whole picture.
  grid: (rows, columns) of the parts.
  patch: float32 [rows * columns], row by row: what is lost without each part.
  words: of the sentence. word: float32 [len(words)]: what is lost without each.
  """

  cosine: float
  grid: tuple[int, int]
  patch: np.ndarray
  words: tuple[str, ...]
  word: np.ndarray


def explain(encoder: Encoder, query: str, pixels: np.ndarray) -> Explained:
  """Args: query: of 1 word at least. pixels: uint8 [h, w, 3].

  Raises:
    Refused (422): more words than are explained.
  """
  words = tuple(query.split())
  if len(words) > limits.EXPLAINED_WORDS:
    raise Refused(
      422,
      f"{len(words)} words are too many to be explained; {limits.EXPLAINED_WORDS} are"
      " the most.",
    )
  seen = encoder.prepare(pixels)
  grid = saliency.grid_of(*seen.shape[:2], limits.EXPLAINED_CELLS)
  parts = saliency.covered(seen, saliency.windows(*seen.shape[:2], grid))
  image, *without_part = encoder.encode_images([seen, *parts])
  # One word alone cannot be left out: its weight is all that there is.
  shorter = saliency.shortened(words) if len(words) > 1 else []
  text, *without_word = encoder.encode_texts([query, *shorter])
  cosine = float(text @ image)
  word = [cosine - float(each @ image) for each in without_word] or [cosine]
  patch = cosine - np.stack(without_part) @ text
  return Explained(cosine, grid, patch, words, np.float32(word))


def of_file(
  encoder: Encoder, query: str, folder: pathlib.Path, stored: Stored
) -> Explained:
  """Raises Refused: 404, `views.content`; 422, `explain`."""
  return explain(encoder, query, views.pixels(folder, stored))
