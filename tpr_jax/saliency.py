r"""Which words and which parts of the image make a similarity: by leaving them out.

Occlusion (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks",
ECCV 2014, Sec. 4) needs nothing of a model but its two features, and says exactly what
it measures. With unit features t of the text and v of the image, t\i of the text
without word i, and v\p of the image with patch p covered:

  word i            <t, v> - <t\i, v>       = <t - t\i, v>
  patch p           <t, v> - <t, v\p>       = <t, v - v\p>
  word i, patch p   <t - t\i, v - v\p>      what the word says about this patch: how
                                            much less the patch weighs without the word

Above 0: it raises the similarity. A word is what stands between white space, with its
punctuation; the shortened text is tokenised anew, so where a text was cut to fit, words
move up. A patch is covered by the mean colour of the image; the window that covers it
reaches beyond its cell, so as to hide whole things, which also makes the weights of
neighbours alike. Weights need not add up to the cosine: of two words that say the same,
neither is much missed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tpr_jax import rankings
from tpr_jax.data.record import Dataset
from tpr_jax.saliency_files import Explained, Saliency

QUERIES = 4  # of each evaluation, where a config says nothing
CELLS = 12  # along the longer side of the image
REACH = 0.5  # how far a window reaches beyond its cell, in cells


@dataclasses.dataclass(frozen=True)
class Towers:
  """The model, and the images as it sees them.

  Attributes:
    picture: record -> [H, W, 3], uint8 or float; all of one size.
    images: [n, H, W, 3] -> [n, D] unit rows.
    texts: n strings -> [n, D] unit rows.
  """

  picture: Callable[[int], np.ndarray]
  images: Callable[[np.ndarray], np.ndarray]
  texts: Callable[[Sequence[str]], np.ndarray]


def choose(total: int, count: int, seed: int = 0) -> list[int]:
  """`count` of `total` queries: from those that the report draws with this seed.

  Raises:
    ValueError: `count` is no whole number, or below 0.
  """
  if not isinstance(count, int) or count < 0:
    raise ValueError(
      f"eval.saliency={count}: expected a number of queries, or 0 for none"
    )
  drawn = rankings.draw(total, max(count, rankings.SHOWN), seed)
  return [int(query) for query in rankings.spread(drawn, count)]


def grid_of(height: int, width: int, cells: int = CELLS) -> tuple[int, int]:
  """(rows, columns): `cells` along the longer side, about square ones."""
  longer = max(height, width)
  return tuple(max(1, round(min(cells, longer) * x / longer)) for x in (height, width))


def windows(
  height: int, width: int, grid: tuple[int, int], reach: float = REACH
) -> np.ndarray:
  """int32 [rows * columns, 4]: top, left, bottom, right of what covers each cell.

  Args:
    grid: (rows, columns) that divide the image.
    reach: pixels beyond the cell, on every side, in cells.
  """
  sides = []
  for length, number in zip((height, width), grid, strict=True):
    edges = np.linspace(0, length, number + 1)
    more = reach * length / number
    low = np.clip(np.round(edges[:-1] - more), 0, length)
    sides.append((low, np.clip(np.round(edges[1:] + more), 0, length)))
  (top, bottom), (left, right) = sides
  rows, columns = np.indices(grid).reshape(2, -1)
  found = np.stack([top[rows], left[columns], bottom[rows], right[columns]], axis=1)
  return found.astype(np.int32)


def covered(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """[H, W, 3], int [P, 4] -> [P, H, W, 3]: one box each under the mean colour."""
  mean = image.mean(axis=(0, 1))
  if np.issubdtype(image.dtype, np.integer):
    mean = np.round(mean)
  found = np.repeat(image[None], len(boxes), axis=0)
  for picture, (top, left, bottom, right) in zip(found, boxes, strict=True):
    picture[top:bottom, left:right] = mean.astype(image.dtype)
  return found


def shortened(words: Sequence[str]) -> list[str]:
  """The text without each of its words in turn."""
  return [" ".join([*words[:i], *words[i + 1 :]]) for i in range(len(words))]


def of_queries(
  chosen: Sequence[int],
  ranking: Mapping[str, np.ndarray],
  dataset: Dataset,
  towers: Towers,
  *,
  cells: int = CELLS,
  reach: float = REACH,
) -> Saliency:
  """Explains each chosen query and its best-ranked image.

  Args:
    chosen: at least one row of `ranking`.
    ranking: `rankings/NAME.npz` of the split (rankings.py).
    cells, reach: of `grid_of` and `windows`.
  """
  records = [int(ranking["top"][query, 0]) for query in chosen]
  pictures = [towers.picture(record) for record in records]
  height, width = pictures[0].shape[:2]
  grid = grid_of(height, width, cells)
  boxes = windows(height, width, grid, reach)
  whose = [(int(ranking["query_record"][q]), int(ranking["query_caption"][q]))
           for q in chosen]  # fmt: skip
  words = [dataset.records[r].captions[c].split() for r, c in whose]
  # All at once: whole batches, and few of them.
  text_rows = _by_item(towers.texts, [[" ".join(w), *shortened(w)] for w in words])
  image_rows = _by_item(
    lambda parts: towers.images(np.stack(parts)),
    [[picture, *covered(picture, boxes)] for picture in pictures],
  )
  found = []
  for i, query in enumerate(chosen):
    (text, *without_word), (image, *without_patch) = text_rows[i], image_rows[i]
    by_word = text - np.reshape(without_word, (-1, len(text)))
    by_patch = image - np.reshape(without_patch, (-1, len(image)))
    found.append(
      Explained(
        query=int(query),
        record=whose[i][0],
        caption=whose[i][1],
        image=records[i],
        cosine=float(text @ image),
        words=tuple(words[i]),
        word=by_word @ image,
        patch=by_patch @ text,
        pairs=by_word @ by_patch.T,
      )
    )
  return Saliency((height, width), grid, boxes, tuple(found))


def _by_item(encode: Callable, items: Sequence[list]) -> list[np.ndarray]:
  """Encodes lists of different lengths as one, and takes the rows apart again."""
  rows = np.asarray(encode([part for item in items for part in item]), np.float32)
  return np.split(rows, np.cumsum([len(item) for item in items])[:-1])
