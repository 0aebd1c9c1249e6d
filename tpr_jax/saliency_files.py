"""What weighs in a similarity, word by word and patch by patch: `saliency/NAME.npz`.

Written by an evaluation (saliency.py says what the weights are), drawn by the report.
No JAX here. S queries, W_s words of each, P patches. The file holds `query`,
`query_record`, `query_caption`, `image_record` int32 [S]; `cosine` float32 [S]; `words`
strings [sum W_s], those of query s from `first_word[s]` to `first_word[s + 1]`, and
beside them `word` float32 [sum W_s] and `pairs` float32 [sum W_s, P]; `patch` float32
[S, P]; `grid` int32 [2]; `size` int32 [2]; `windows` int32 [P, 4].
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from tpr_jax.core import npz


class SaliencyError(Exception):
  """A saliency file cannot be used: names it and says why."""


@dataclasses.dataclass(frozen=True)
class Explained:
  """One query and one image. Weights are differences of cosines.

  Attributes:
    query: row of the ranking.
    record, caption: which caption of which record.
    image: record of the image.
    cosine: of the whole text and the whole image.
    words: the text, split at white space.
    word: float32 [W]; above 0: the word raises the cosine.
    patch: float32 [P]; above 0: the patch raises the cosine.
    pairs: float32 [W, P]; above 0: the word raises the cosine by this patch.
  """

  query: int
  record: int
  caption: int
  image: int
  cosine: float
  words: tuple[str, ...]
  word: np.ndarray
  patch: np.ndarray
  pairs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Saliency:
  """Some queries of one evaluation.

  Attributes:
    size: (height, width) of the images, as the towers see them.
    grid: (rows, columns) of the patches; patch p is at divmod(p, columns).
    windows: int32 [P, 4] top, left, bottom, right of what is covered for a patch; it
      may reach beyond the patch's cell.
  """

  size: tuple[int, int]
  grid: tuple[int, int]
  windows: np.ndarray
  queries: tuple[Explained, ...]


def write(path: pathlib.Path, found: Saliency) -> None:
  """Writes one file, in place of an older one; makes its folder."""
  queries, patches = found.queries, len(found.windows)
  first = np.cumsum([0, *(len(one.words) for one in queries)])
  words = [word for one in queries for word in one.words]
  path.parent.mkdir(parents=True, exist_ok=True)
  np.savez_compressed(
    path,
    query=np.array([one.query for one in queries], np.int32),
    query_record=np.array([one.record for one in queries], np.int32),
    query_caption=np.array([one.caption for one in queries], np.int32),
    image_record=np.array([one.image for one in queries], np.int32),
    cosine=np.array([one.cosine for one in queries], np.float32),
    first_word=first.astype(np.int32),
    words=np.array(words, np.str_),
    word=_joined([one.word for one in queries], (0,)),
    pairs=_joined([one.pairs for one in queries], (0, patches)),
    patch=_joined([one.patch[None] for one in queries], (0, patches)),
    grid=np.array(found.grid, np.int32),
    size=np.array(found.size, np.int32),
    windows=found.windows.astype(np.int32),
  )


def _joined(parts: Sequence[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
  return np.concatenate([np.zeros(empty, np.float32), *parts]).astype(np.float32)


def read(path: pathlib.Path) -> Saliency:
  """One file.

  Raises:
    SaliencyError: it cannot be read, or its arrays don't fit each other.
  """
  try:
    return npz.read(path, _queries)
  except ValueError as error:
    raise SaliencyError(
      f"{path} cannot be used ({error}); score the run again with --mode=eval --run=DIR"
    ) from error


def _queries(arrays: dict[str, np.ndarray]) -> Saliency:
  grid = tuple(int(number) for number in arrays["grid"])
  size = tuple(int(number) for number in arrays["size"])
  first, number = arrays["first_word"], len(arrays["query"])
  patches, words = int(np.prod(grid)), len(arrays["words"])
  expected = {
    **{
      name: (number,)
      for name in ("query_record", "query_caption", "image_record", "cosine")
    },
    "first_word": (number + 1,),
    "word": (words,),
    "pairs": (words, patches),
    "patch": (number, patches),
    "windows": (patches, 4),
  }
  for name, shape in expected.items():
    if arrays[name].shape != shape:
      raise ValueError(f"{name!r} has shape {arrays[name].shape}, expected {shape}")
  if first[0] != 0 or first[-1] != words or (np.diff(first) < 0).any():
    raise ValueError(f"'first_word' does not divide {words} words")
  found = []
  for i in range(number):
    part = slice(int(first[i]), int(first[i + 1]))
    found.append(
      Explained(
        query=int(arrays["query"][i]),
        record=int(arrays["query_record"][i]),
        caption=int(arrays["query_caption"][i]),
        image=int(arrays["image_record"][i]),
        cosine=float(arrays["cosine"][i]),
        words=tuple(arrays["words"][part].tolist()),
        word=arrays["word"][part],
        patch=arrays["patch"][i],
        pairs=arrays["pairs"][part],
      )
    )
  return Saliency(size, grid, arrays["windows"], tuple(found))
