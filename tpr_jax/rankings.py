"""What an evaluation keeps of every query: `rankings/NAME.npz`, and reading it again.

Q queries, G gallery items, K best items. `first_rank` int32 [Q], `ap`, `inp`, `sd`
float32 [Q] and `identity` [Q] are enough for every score and its interval, and, with
the same queries under another model, for a comparison. `query_digest` uint64 [Q] (of
the texts), `gallery_identity` [G] and `gallery_digest` uint64 [G] (of the image names)
tell whether two evaluations asked the same; digests are left out where the texts or
names are not known. `group` [Q, N], strings, is there where queries were grouped, in N
ways; older files have [Q].
A ranking whose first places were put into another order (two_stage.py) is in a file of
its own, NAME.reranked.npz; its `sd` is NaN, and its `score` the one that decided.
`query_record`, `query_caption`, `top` [Q, K] and `score` [Q, K] are for the pictures
of the report (tpr_jax/report/files.py), and so are the histograms of
metrics/distributions.py: `bins` [B + 1], `matched` and `unmatched` int64 [B],
`unmatched_queries` [] and `mean_cosine` [2].
"""

import dataclasses
import hashlib
import pathlib
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np

RERANKED = ".reranked"  # ends the name of what a second stage made of an evaluation
_PER_QUERY = ("first_rank", "ap", "inp", "sd", "identity")
_OPTIONAL = ("query_digest", "gallery_digest", "group")
SHOWN = 12  # queries that a report draws at random


class RankingError(Exception):
  """A ranking file cannot be used: names it and says why."""


@dataclasses.dataclass(frozen=True)
class Ranked:
  """The numbers of one evaluation; shapes and dtypes as above, None: not known."""

  path: pathlib.Path
  first_rank: np.ndarray
  ap: np.ndarray
  inp: np.ndarray
  sd: np.ndarray
  identity: np.ndarray
  gallery_identity: np.ndarray
  query_digest: np.ndarray | None = None
  gallery_digest: np.ndarray | None = None
  group: np.ndarray | None = None


def digests(texts: Iterable[str]) -> np.ndarray:
  """uint64 [n]: equal for equal texts, and for others practically never."""
  code = lambda text: hashlib.blake2b(str(text).encode(), digest_size=8).digest()
  return np.frombuffer(b"".join(map(code, texts)), np.uint64)


def draw(total: int, count: int, seed: int) -> np.ndarray:
  """`count` of `total` queries without replacement, by `seed` alone, ascending."""
  rng = np.random.default_rng([seed, total])
  return np.sort(rng.choice(total, size=min(count, total), replace=False))


def spread(chosen: Sequence, count: int) -> list:
  """The first, the last and evenly between: all of the split, not its beginning."""
  if len(chosen) <= count:
    return list(chosen)
  if count < 2:
    return list(chosen[:count])
  return [chosen[round(i * (len(chosen) - 1) / (count - 1))] for i in range(count)]


def read(path: pathlib.Path) -> Ranked:
  """One `rankings/NAME.npz`.

  Raises:
    RankingError: it cannot be read, or lacks what a comparison needs.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      found = {name: archive[name] for name in archive.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise RankingError(f"{path} cannot be read: {error}") from error
  needed = (*_PER_QUERY, "gallery_identity")
  absent = [name for name in needed if name not in found]
  if absent:
    raise RankingError(
      f"{path} has no array {absent[0]!r}: it was written by an older version; score"
      " the run again with --mode=eval --run=DIR"
    )
  queries = len(found["first_rank"])
  if "group" in found and found["group"].ndim == 1:
    found["group"] = found["group"][:, None]
  for name in (*_PER_QUERY, "query_digest", "group"):
    if name not in found:
      continue
    shape = found[name].shape
    if shape[:1] != (queries,) or len(shape) != 1 + (name == "group"):
      raise RankingError(
        f"{path}: {name!r} has shape {shape}, with {queries} entries in 'first_rank'"
      )
  kept = {name: found[name] for name in (*needed, *_OPTIONAL) if name in found}
  return Ranked(path=path, **kept)
