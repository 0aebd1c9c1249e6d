"""The store's index of nearest neighbours: made, brought up to date, and measured.

Sentences are asked of it as searches will ask; the parts that a search looks into are
doubled until as many of the true nearest are found as `RECALL` asks. Rows are read from
the store once, batch by batch, so that memory does not grow with the pictures.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpr_jax.data import build
from tpr_jax.search.encoder import Encoder
from tpr_jax.search.store import Store, rows_of

QUERIES, TOP, RECALL = 64, 10, 0.98
_FIRST = 8  # parts that are looked into at first
# Of the pictures, the share that the index may lack: those are compared one by one.
_STALE = 0.1
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Near:
  """What index.json says of it.

  Attributes:
    probes: parts that a search looks into.
    recall: of the TOP nearest of QUERIES sentences, the share that was found.
    pictures: there were then.
  """

  probes: int
  recall: float
  pictures: int


def of(found: Mapping[str, Any]) -> Near | None:
  """Of what index.json says; None: there is none."""
  return Near(**found["near"]) if found.get("near") else None


def renewed(
  store: Store,
  before: Near | None,
  encoder: Callable[[], Encoder],
  say: Callable[[str], None],
) -> Near | None:
  """Makes or extends the index where that is due -> what is known of it.

  Args:
    before: what was known; None: it was never measured.
  """
  covered, count = store.near_rows(), store.whole()
  if covered is None:
    say(f"{count:,} pictures: making an index of nearest neighbours")
    store.make_near()
  elif count - covered > _STALE * count:
    say(f"{count - covered:,} pictures are not in the index of nearest neighbours yet")
    store.extend_near()
  elif before is not None:
    return before
  found = measured(store, encoder().encode_texts(sentences()), count)
  say(
    f"Searches are approximate: {found.recall:.1%} of the {TOP} nearest of {QUERIES}"
    f" sentences are found, looking into {found.probes:,} of {store.near_parts():,}"
    " parts"
  )
  return found


def sentences() -> list[str]:
  """QUERIES descriptions of people, always the same."""
  people = dict(identities=QUERIES, views=1, granularity=("coarse",))
  records = build.dataset("rendered", None, "test", people).records
  return [record.captions[0] for record in records]


def measured(store: Store, rows: np.ndarray, pictures: int) -> Near:
  """Looks into more parts until the true nearest of these rows are found.

  Args:
    rows: float32 [Q, D].
  """
  least, probes = _least(store, rows), _FIRST
  while True:
    found = [store.nearest(row, TOP, probes)[1] @ row for row in rows]
    # By cosines, for files that are copies of each other stand for each other.
    shares = [(of >= limit).mean() for of, limit in zip(found, least, strict=True)]
    recall = float(np.mean(shares))
    if recall >= RECALL or probes >= store.near_parts():
      return Near(probes, recall, pictures)
    probes *= 2


def _least(store: Store, rows: np.ndarray) -> np.ndarray:
  """float32 [Q]: the cosine that the TOP nearest of all have with each row, but for
  rounding."""
  best = np.full((len(rows), TOP), -np.inf, np.float32)
  for batch in store.read(["vector"], "problem is null"):
    cosines = rows @ rows_of(batch["vector"], store.dim).T
    best = -np.partition(-np.hstack([best, cosines]), TOP - 1, axis=1)[:, :TOP]
  return best.min(axis=1) - _ROUNDING
