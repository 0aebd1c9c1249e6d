"""An index, opened: the small API below `--mode=search`.

  index = Index.open("DIR")
  answer = index.search("a woman in a red coat", where="camera = 'gate'", top=20)
  for hit in answer.hits: print(hit.rank, hit.score, hit.path)

It reads the version of the moment when it was opened, whatever is written meanwhile;
`refresh` takes the latest, `latest` opens it beside this one.
"""

import copy
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import calibration_files
from tpr_jax.data import images
from tpr_jax.data.record import ImageError
from tpr_jax.detect.boxes import Box
from tpr_jax.search import about, again, gallery, near, nearest
from tpr_jax.search import where as conditions
from tpr_jax.search.answer import Answer, Hit, Question, Stored
from tpr_jax.search.choosing import Chooser
from tpr_jax.search.encoder import Encoder, Lazy, Model, Place
from tpr_jax.search.problems import AskedError, SearchError
from tpr_jax.search.settings import FALSE_ALARMS, Load
from tpr_jax.search.store import BOX, Store

SHOWN = ("size", "width", "height", "time")  # beside the columns of the side-car
SHOWN_OF_PEOPLE = (*SHOWN, "detection_score")


class Index:
  """Use `Index.open`.

  Args:
    place: the folder.
    model: its model; None: where the index says that it is.
    exact: every picture is compared with, however many there are.

  Attributes:
    about: what index.json says.
  """

  def __init__(
    self, place: pathlib.Path, model: Model | None = None, *, exact: bool = False
  ):
    found = about.read(place)
    if found is None:
      raise SearchError(f"{place} holds no index: make one with --mode=index")
    self.place, self.about, self._exact = place, found, exact
    model = model or _model(found, found["model"]["place"])
    self._encoder = Lazy(
      model,
      lambda model: about.check_weights(place, found, model.identity()),
      lambda encoder: about.check_encoder(place, found, encoder),
    )
    store = Store(place)
    self._pinned(store, store.pin())

  @classmethod
  def open(
    cls, place: str | os.PathLike, *, model: str = "", exact: bool = False
  ) -> "Index":
    """Opens the index in a folder.

    Args:
      model: where its model is now; default: where it was.
      exact: every picture is compared with, however many there are.

    Raises:
      SearchError: there is no index, it cannot be read, or lancedb is missing.
    """
    path = pathlib.Path(place).expanduser()
    found = about.read(path) if model else None
    return cls(path, _model(found, model) if found else None, exact=exact)

  def __len__(self) -> int:
    """Pictures, or people in frames, that can be found."""
    return len(self._known)

  @property
  def columns(self) -> dict[str, str]:
    """What conditions may name: name -> kind (where.KINDS)."""
    return dict(self._columns)

  @property
  def metadata(self) -> list[str]:
    """Names of the side-car's columns."""
    return list(self._metadata)

  def refresh(self) -> bool:
    """Takes what was written since; was there anything?

    An index that stays open needs it once a day: older versions are dropped then.
    """
    version = self._store.pin()
    changed = version != self._version
    if changed:
      self._pinned(self._store, version)
    return changed

  @property
  def version(self) -> int:
    """Of the store; every write makes a new one."""
    return self._version

  def latest(self) -> "Index":
    """This index, or one of the latest version if something was written since.

    It shares this one's model. Its pictures are read when it is first asked; this one
    goes on to answer from its own version.

    Raises:
      SearchError: the folder holds no index any more, or one of another model.
    """
    store = Store(self.place)
    version = store.pin()
    found = about.read(self.place)
    same = found is not None and all(
      found.get(name) == self.about.get(name)
      for name in ("images", "model", "encoder", "detector")
    )
    if not same:
      raise SearchError(
        f"{self.place} is now of another folder, model or detector than when it was"
        " opened: open it anew"
      )
    if version == self._version:
      return self
    newer = copy.copy(self)
    newer.about = found
    newer._pinned(store, version)
    return newer

  def encoder(self) -> Encoder:
    """The model, loaded if it is not yet. Raises SearchError: it is another."""
    return self._encoder()

  def search(
    self,
    query: str = "",
    *,
    image: str | os.PathLike | bytes | None = None,
    top: int = 20,
    where: str = "",
    image_weight: float = 0.5,
    false_alarms: float = FALSE_ALARMS,
    rerank: int = 0,
  ) -> Answer:
    """The pictures that fit a sentence, a picture, or both, best first. Exact.

    Args:
      query: a sentence, or "".
      image: a path or the bytes of a picture, or None.
      top: so many; fewer where fewer fit.
      where: a condition (where.py); only pictures that meet it are looked at.
      image_weight: of both, the share of the picture, between 0 and 1.
      false_alarms: of sentences about people who are not there, the share that may be
        answered as if somebody matched.
      rerank: so many of the first are ordered again by the index's second stage.

    Raises:
      SearchError: nothing is asked, the condition or the picture cannot be read, the
        model is not the index's own, or there is no second stage for `rerank`.
    """
    if not query.strip() and image is None:
      raise SearchError("a search needs a query, an image or both")
    self.check(where)  # before the seconds that a model takes
    self.check_rerank(rerank, query, image is not None)
    rows, kept = self.rows(query, image), None
    if rerank:
      kept = self._encoder().keep_texts([query])[1][0]
    asked = Question(rows, top, 0, where, image_weight, false_alarms, rerank, kept)
    return self.answers([asked])[0]

  def check(self, where: str) -> None:
    """Raises ConditionError where a condition cannot be read."""
    if where.strip():
      conditions.sql(where, self.columns)

  @property
  def second_stage(self) -> str:
    """What orders the first pictures again; "": the index keeps nothing for it."""
    return "" if self._look is None else self._look.by

  def check_rerank(self, count: int, query: str, pictured: bool) -> None:
    """Raises AskedError where `count` pictures cannot be looked at again.

    Args:
      query: the words. pictured: whether a picture is asked with, too.
    """
    if not count:
      return
    if self._look is None:
      raise AskedError(
        "This index keeps nothing to order the first pictures again (rerank): that"
        " takes one that was made with --second_stage."
      )
    if pictured or not query.strip():
      raise AskedError(
        "The second look (rerank) compares words with pictures: ask by words alone."
      )

  def answers(self, questions: Sequence[Question]) -> list[Answer]:
    """`search` by rows that are there already; what is known of all hits is read once.

    Raises:
      ConditionError: a condition cannot be read.
    """
    neighbours = None if self._known.vectors is not None else self._near
    choose = Chooser(
      self._store, self._known, neighbours, self._calibration, self._look, self._encoder
    )
    found = []
    for each in questions:
      condition = conditions.sql(each.where, self.columns) if each.where.strip() else ""
      found.append(choose(each, self._allowed(condition), condition))
    people = self._store.people
    names = [*(SHOWN_OF_PEOPLE if people else SHOWN), *self.metadata]
    columns = [*names, "hash", "thumbnail", *(("file_hash", *BOX) if people else ())]
    wanted = np.unique(np.concatenate([each.rows for each in found]))
    read = self._store.of_rows(self._known.ids[wanted], columns)
    known = dict(zip(wanted.tolist(), read, strict=True))
    return [
      Answer(
        tuple(
          Hit(
            rank=each.skip + place + 1,
            score=float(each.scores[place]),
            path=known[at]["path"],
            cosines={side: float(of[place]) for side, of in each.cosines.items()},
            values={name: known[at][name] for name in names},
            thumbnail=known[at]["thumbnail"],
            key=known[at]["hash"],
            probability=each.judged.of(place),
            box=_box(known[at]) if people else None,
            content=known[at]["file_hash" if people else "hash"],
            second=each.again(place),
          )
          for place, at in enumerate(each.rows.tolist())
        ),
        each.searched,
        len(self._known),
        each.judged.matches,
        people,
        None if neighbours is None else neighbours.recall,
      )
      for each in found
    ]

  def rows(
    self, query: str = "", image: str | os.PathLike | bytes | None = None
  ) -> dict[str, np.ndarray]:
    """Unit rows float32 [D] of what is asked with: "text", "image" or both.

    Raises:
      AskedError: the picture cannot be read.
      SearchError: the model is not the index's own.
    """
    found = {}
    if image is not None:
      name = "the picture that was given" if isinstance(image, bytes) else None
      try:
        pixels = images.decode(image, name)
      except ImageError as error:
        raise AskedError(f"the picture to search by: {error}") from error
      encoder = self._encoder()
      found["image"] = encoder.encode_images([encoder.prepare(pixels)])[0]
    if query.strip():
      found["text"] = self._encoder().encode_texts([query])[0]
    for side, row in found.items():
      check_row(row, side)
    return found

  def stored(self, key: str) -> Stored | None:
    """The picture or person with this key (32 hex digits); None: there is none."""
    rows = self._known.like(key)
    people = self._store.people
    columns = ["hash", "thumbnail"]
    if people:
      columns += ["file_hash", "width", "height", *BOX]
    listed = self._store.of_rows(self._known.ids[rows], columns)
    same = [
      (at, row) for at, row in zip(rows, listed, strict=True) if row["hash"] == key
    ]
    if not same:
      return None
    at, first = same[0]
    paths = tuple(sorted(row["path"] for _, row in same))
    found = Stored(key, paths, self._known.row(at), first["thumbnail"], key)
    if not people:
      return found
    box, margin = _box(first), self.about["detector"]["settings"]["margin"]
    cut = box.widened(margin, first["width"], first["height"])
    return dataclasses.replace(found, content=first["file_hash"], box=box, cut=cut)

  # --- inside ---------------------------------------------------------------------

  def _pinned(self, store: Store, version: int) -> None:
    """From now on all is read from this version of the store."""
    try:
      self._calibration = calibration_files.read(self.place)
    except calibration_files.CalibrationError as error:
      raise SearchError(f"{error}; --mode=index writes it again") from error
    self._store, self._version = store, version
    self._columns, self._metadata = store.columns, store.metadata
    self._look, self._near = again.of(self.about["encoder"]), near.of(self.about)
    self._gallery: gallery.Gallery | None = None

  @property
  def _known(self) -> gallery.Gallery:
    if self._gallery is None:
      large = self._near is not None and self._store.whole() > nearest.EXACT
      near = large and not self._exact and self._store.near_rows() is not None
      self._gallery = gallery.Gallery(self._store, whole=not near)
    return self._gallery

  def _allowed(self, condition: str) -> np.ndarray | None:
    """Rows that meet a condition, as SQL; "": None."""
    if not condition:
      return None
    whole = f"problem is null and {condition}"
    ids = [
      batch["_rowid"].to_numpy().astype(np.int64)
      for batch in self._store.read(["path"], whole, ids=True)
    ]
    return self._known.among(np.concatenate(ids) if ids else np.zeros(0, np.int64))


def _box(row: Mapping[str, Any]) -> Box:
  return Box(*(row[name] for name in BOX))


def check_row(row: np.ndarray, side: str) -> None:
  """Raises AskedError where a model made something else than numbers of a query."""
  if not np.isfinite(row).all():
    raise AskedError(f"the model's row of the {side} is not finite: {row[:4]}...")


def _model(found: Mapping[str, Any], place: str) -> Place:
  how = dict(found["model"]["load"])
  if "image_size" in how:
    how["image_size"] = tuple(how["image_size"])
  return Place(place, Load(**how))
