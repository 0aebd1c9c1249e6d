"""An index, opened: the small API below `--mode=search`.

  index = Index.open("DIR")
  answer = index.search("a woman in a red coat", where="camera = 'gate'", top=20)
  for hit in answer.hits: print(hit.rank, hit.score, hit.path)

It reads the version of the moment when it was opened, whatever is written meanwhile;
`refresh` takes the latest.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tpr_jax.data import images
from tpr_jax.data.record import ImageError
from tpr_jax.search import about, gallery, where
from tpr_jax.search.encoder import Lazy, Model, Place
from tpr_jax.search.problems import SearchError
from tpr_jax.search.settings import Load
from tpr_jax.search.store import Store

SHOWN = ("size", "width", "height", "time")  # beside the columns of the side-car


@dataclasses.dataclass(frozen=True)
class Hit:
  """One picture that was found.

  Attributes:
    score: the cosine; of a sentence with a picture, the weighted sum of standard
      scores (`gallery.standard`).
    cosines: "text", "image" -> cosine, of what was asked with.
    values: columns -> value: size, width, height, time and those of the side-car.
    thumbnail: JPEG.
  """

  rank: int
  score: float
  path: str
  cosines: Mapping[str, float]
  values: Mapping[str, Any]
  thumbnail: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
  """hits: best first. searched, total: pictures that fit the condition, and all."""

  hits: tuple[Hit, ...]
  searched: int
  total: int


class Index:
  """Use `Index.open`.

  Args:
    place: the folder.
    model: its model; None: where the index says that it is.

  Attributes:
    about: what index.json says.
  """

  def __init__(self, place: pathlib.Path, model: Model | None = None):
    found = about.read(place)
    if found is None:
      raise SearchError(f"{place} holds no index: make one with --mode=index")
    self.place, self.about = place, found
    model = model or _model(found, found["model"]["place"])
    self._encoder = Lazy(
      model,
      lambda model: about.check_weights(place, found, model.identity()),
      lambda encoder: about.check_encoder(place, found, encoder),
    )
    self._store = Store(place)
    self._gallery: gallery.Gallery | None = None
    self._version = self._store.pin()

  @classmethod
  def open(cls, place: str | os.PathLike, *, model: str = "") -> "Index":
    """Opens the index in a folder.

    Args:
      model: where its model is now; default: where it was.

    Raises:
      SearchError: there is no index, it cannot be read, or lancedb is missing.
    """
    path = pathlib.Path(place).expanduser()
    if not model:
      return cls(path)
    found = about.read(path)
    return cls(path, _model(found, model) if found else None)

  def __len__(self) -> int:
    """Pictures that can be found."""
    return len(self._vectors)

  @property
  def columns(self) -> dict[str, str]:
    """What conditions may name: name -> kind (where.KINDS)."""
    return self._store.columns

  @property
  def metadata(self) -> list[str]:
    """Names of the side-car's columns."""
    return [name for name in self._store.metadata]

  def refresh(self) -> bool:
    """Takes what was written since; was there anything?

    An index that stays open needs it once a day: older versions are dropped then.
    """
    version = self._store.pin()
    changed, self._version = version != self._version, version
    if changed:
      self._gallery = None
    return changed

  def search(
    self,
    query: str = "",
    *,
    image: str | os.PathLike | bytes | None = None,
    top: int = 20,
    where: str = "",
    image_weight: float = 0.5,
  ) -> Answer:
    """The pictures that fit a sentence, a picture, or both, best first. Exact.

    Args:
      query: a sentence, or "".
      image: a path or the bytes of a picture, or None.
      top: so many; fewer where fewer fit.
      where: a condition (where.py); only pictures that meet it are looked at.
      image_weight: of both, the share of the picture, between 0 and 1.

    Raises:
      SearchError: nothing is asked, the condition or the picture cannot be read, or the
        model is not the index's own.
    """
    if not query.strip() and image is None:
      raise SearchError("a search needs a query, an image or both")
    allowed = self._allowed(where)
    rows = self.rows(query, image)
    cosines = {side: self._vectors.cosines(row) for side, row in rows.items()}
    if len(cosines) == 1:
      (scores,) = cosines.values()
    else:
      shares = (1 - image_weight, image_weight)
      both = (cosines["text"], cosines["image"])
      scores = gallery.standard(both, shares)
    chosen = gallery.best(scores, self._vectors.order, top, allowed)
    total = len(self._vectors)
    searched = total if allowed is None else int(allowed.sum())
    return Answer(self._hits(chosen, scores, cosines), searched, total)

  def rows(
    self, query: str = "", image: str | os.PathLike | bytes | None = None
  ) -> dict[str, np.ndarray]:
    """Unit rows float32 [D] of what is asked with: "text", "image" or both.

    Raises:
      SearchError: the picture cannot be read, or the model is not the index's own.
    """
    found = {}
    if image is not None:
      name = "the picture that was given" if isinstance(image, bytes) else None
      try:
        pixels = images.decode(image, name)
      except ImageError as error:
        raise SearchError(f"the picture to search by: {error}") from error
      encoder = self._encoder()
      found["image"] = encoder.encode_images([encoder.prepare(pixels)])[0]
    if query.strip():
      found["text"] = self._encoder().encode_texts([query])[0]
    for side, row in found.items():
      if not np.isfinite(row).all():
        raise SearchError(f"the model's row of the {side} is not finite: {row[:4]}...")
    return found

  # --- inside ---------------------------------------------------------------------

  @property
  def _vectors(self) -> gallery.Gallery:
    if self._gallery is None:
      self._gallery = gallery.Gallery(self._store)
    return self._gallery

  def _allowed(self, condition: str) -> np.ndarray | None:
    if not condition.strip():
      return None
    asked = where.sql(condition, self.columns)
    ids = [
      batch["_rowid"].to_numpy().astype(np.int64)
      for batch in self._store.read(["path"], f"problem is null and {asked}", ids=True)
    ]
    return self._vectors.among(np.concatenate(ids) if ids else np.zeros(0, np.int64))

  def _hits(
    self,
    chosen: np.ndarray,
    scores: np.ndarray,
    cosines: Mapping[str, np.ndarray],
  ) -> tuple[Hit, ...]:
    columns = [*SHOWN, *self.metadata]
    rows = self._store.of_rows(self._vectors.ids[chosen], [*columns, "thumbnail"])
    return tuple(
      Hit(
        rank=place + 1,
        score=float(scores[at]),
        path=row["path"],
        cosines={side: float(values[at]) for side, values in cosines.items()},
        values={name: row[name] for name in columns},
        thumbnail=row["thumbnail"],
      )
      for place, (at, row) in enumerate(zip(chosen, rows, strict=True))
    )


def _model(found: Mapping[str, Any], place: str) -> Place:
  how = dict(found["model"]["load"])
  if "image_size" in how:
    how["image_size"] = tuple(how["image_size"])
  return Place(place, Load(**how))
