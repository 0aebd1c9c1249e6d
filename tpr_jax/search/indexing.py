"""`--mode=index`: brings an index up to date with a folder of pictures.

What is new or changed is read; what is new by its content is encoded; what moved takes
its row along; what is gone is removed last. Rows are written in batches, each whole or
not at all, so a process that is killed loses the batch in hand, and the same command
does the rest. Readers see the version that they opened.

With a detector, pictures are frames: each has a row for every person in it, all of them
in one commit, or one row that says that it has none.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from tpr_jax import calibration_files
from tpr_jax.core import lock
from tpr_jax.detect import place
from tpr_jax.search import about, again, near, nearest, reading, sidecar, store, walk
from tpr_jax.search.done import Done, report
from tpr_jax.search.encoder import BATCH, Lazy, Model
from tpr_jax.search.people import Cutter
from tpr_jax.search.problems import SearchError
from tpr_jax.search.reading import Broken, Copy, Frame, Fresh, Gone, Same
from tpr_jax.search.settings import Indexing
from tpr_jax.search.store import EMPTY, KEPT, Known, Store
from tpr_jax.search.walk import Found

COMMIT, EVERY = 1024, 20.0  # rows, seconds: whichever comes first
_UPDATED = 4096  # rows of a change of metadata in one commit


class Indexer:
  """One run of `--mode=index`.

  Args:
    asked: checked settings.
    model: what encodes.
    say: takes lines for people.
    detector: of `asked.detect`; None: what that says.
  """

  def __init__(
    self,
    asked: Indexing,
    model: Model,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
    detector: place.Place | None = None,
  ):
    self.asked, self._model, self._say = asked, model, say
    if detector is None and asked.detect is not None:
      detector = place.Place(asked.detect)
    self._detector, self._loaded = detector, None

  def __call__(self) -> Done:
    """Raises:
    SearchError: the folders, the side-car, the model or the detector do not fit.
    DetectorError: the detector cannot be used.
    """
    with self._alone():
      found = about.read(self.asked.index)
      if found is not None:
        self._same_folder(found)
        identity = self._model.identity()
        about.check_weights(self.asked.index, found, identity)
        detector = self._detector and self._detector.identity()
        about.check_detector(self.asked.index, found, detector)
        if found["model"]["place"] != identity["place"]:  # searches look for it there
          model = {**found["model"], "place": identity["place"]}
          found = {**found, "model": model}
          about.write(self.asked.index, found)
      table = self._sidecar()
      walked = self._walk(found is None)
      opened = self._store(found)
      self._calibrate()
      makers = self._encoder, self._look, self._cutter()
      done = _Update(self.asked, walked, table, opened, *makers, self._say)()
      self._nearest(opened)
      return done

  def _nearest(self, opened: Store) -> None:
    """Of a large index, its index of nearest neighbours, measured."""
    if opened.whole() <= nearest.EXACT:
      return
    found = about.read(self.asked.index)
    known = near.renewed(opened, near.of(found), self._encoder, self._say)
    about.write(self.asked.index, {**found, "near": dataclasses.asdict(known)})

  def _sidecar(self) -> sidecar.Sidecar | None:
    if self.asked.metadata is None:
      return None
    taken = store.PEOPLE if self._detector else ()
    return sidecar.read(self.asked.metadata, taken)

  def _cutter(self) -> Cutter | None:
    if self._detector is None:
      return None
    detector = self._loaded or Lazy(
      self._detector,
      lambda detector: self._say(f"Loading {self.asked.detect.place}"),
      lambda detector: None,
    )
    prepare = lambda pixels: self._encoder().prepare(pixels)
    return Cutter(detector, self.asked.detect, prepare)

  def _calibrate(self) -> None:
    """Takes along what the model's folder says of probabilities, if it does."""
    model = about.read(self.asked.index)["model"]
    if set(model["load"]) - {"second_stage"}:  # otherwise than where they were fitted
      return
    try:
      found = calibration_files.read(pathlib.Path(model["place"]))
    except calibration_files.CalibrationError as error:
      self._say(f"WARNING, no probabilities of hits: {error}")
      return
    if found is not None:
      calibration_files.write(self.asked.index, found)

  # --- before ---------------------------------------------------------------------

  @contextlib.contextmanager
  def _alone(self) -> Iterator[None]:
    index = self.asked.index
    if index.exists() and not index.is_dir():
      raise SearchError(f"--index={index} is a file; give a folder")
    if index.is_dir():
      about.read(index)  # before a lock is put into a folder of something else
    try:
      with lock.alone(index / about.LOCK, "--mode=index"):
        yield
    except lock.Locked as error:
      raise SearchError(
        f"{index}: another --mode=index is at work there; wait for it (searching is"
        " possible meanwhile)"
      ) from error

  def _same_folder(self, found: Mapping[str, Any]) -> None:
    there, asked = pathlib.Path(found["images"]), self.asked.images.resolve()
    if there == asked:
      return
    if there.is_dir():
      raise SearchError(
        f"{self.asked.index} is of {there}, which is still there, and not of {asked}:"
        " an index is of one folder; give another with --index=DIR"
      )
    self._say(f"{there} is not there any more: its index is now of {asked}")
    about.write(self.asked.index, {**found, "images": str(asked)})

  def _walk(self, new: bool) -> walk.Walked:
    folder = self.asked.images
    try:
      walked = walk.walk(folder, self.asked.index)
    except OSError as error:
      raise SearchError(f"--images={folder} cannot be read: {error}") from error
    others = f"; {walked.others:,} other files are left alone" if walked.others else ""
    self._say(f"{folder}: {len(walked.files):,} pictures{others}")
    if new and not walked.files:
      raise SearchError(
        f"--images={folder} has no pictures ({', '.join(walk.SUFFIXES)}): there is"
        " nothing to index"
      )
    return walked

  def _store(self, found: Mapping[str, Any] | None) -> Store:
    """The table; a new index is claimed by its model first."""
    index = self.asked.index
    if found is None:
      identity = self._model.identity()
      detector = None
      if self._detector is not None:  # one that cannot be used claims no folder
        detector, loaded = self._detector.identity(), self._detector.load()
        self._loaded = lambda: loaded
      encoder = self._model.load()
      found = about.make(self.asked.images, identity, encoder, detector)
      about.write(index, found)
      self._encoder = lambda: encoder
    else:
      self._encoder = Lazy(
        self._model,
        lambda model: self._say(f"Loading {self.asked.model}"),
        lambda encoder: about.check_encoder(index, found, encoder),
      )
    self._look = again.of(found["encoder"])
    kept, people = self._look is not None, self._detector is not None
    return Store(index, found["encoder"]["dim"], kept=kept, people=people)


class _Update:
  """The changes of one run, from what was walked to the last commit."""

  def __init__(self, asked, walked, table, opened, encoder, look, cutter, say):
    self.asked, self.walked, self.sidecar, self.store = asked, walked, table, opened
    self.encoder, self.look, self.cutter, self.say = encoder, look, cutter, say
    self.done = Done()
    self._rows: list[dict[str, Any]] = []
    # Rows without their vectors, and what the encoder makes those of.
    self._fresh: list[tuple[dict[str, Any], np.ndarray]] = []
    self._restamped: list[dict[str, Any]] = []
    self._vanished: list[str] = []

  def __call__(self) -> Done:
    self.known = self.store.known()
    self._there = set(self.known)
    files = self.walked.files
    paths = {file.path for file in files}
    gone = [p for p in self.known if p not in paths and not self.walked.is_shut(p)]
    if gone and not files:
      raise SearchError(
        f"--images={self.asked.images} has no pictures, and the index has"
        f" {len(self.known):,}: is the folder not mounted? To empty an index, remove"
        f" {self.asked.index}"
      )
    if self.sidecar is not None:
      own = {k: v for k, v in self.sidecar.columns.items() if k != sidecar.TIME}
      self.store.set_metadata(own)
    unread = [f for f in files if not reading.unchanged(f, self.known.get(f.path))]
    self.done.unchanged = len(files) - len(unread)
    if unread:
      gone += self._take_in(unread, gone)
    self.store.remove(sorted(gone))
    self.done.deleted += len(gone) - self.done.renamed
    if self.sidecar is not None:
      self._describe()
    if unread or gone or self.done.described:
      self.store.tidy()
    report(self.done, self.asked, self.walked, self.store, self.say)
    return self.done

  # --- files ----------------------------------------------------------------------

  def _take_in(self, files: Sequence[Found], gone: Sequence[str]) -> list[str]:
    """Reads, encodes and writes -> paths that vanished while this ran."""
    self._now = time.time_ns()
    began = self._last = time.monotonic()
    whole = {k.hash for k in self.known.values() if k.kind in (None, EMPTY)}
    moved: dict[str, int] = {}  # hash -> files of it that are gone
    for path in gone:
      moved[self.known[path].hash] = moved.get(self.known[path].hash, 0) + 1
    copies: list[Copy] = []
    found = self._outcomes(files, self.known, whole)
    with tqdm(total=len(files), unit="image", disable=None) as bar:
      for seen, outcome in enumerate(found, 1):
        bar.update()
        known = self.known.get(outcome.file.path)
        if isinstance(outcome, Gone):
          self._vanished += [outcome.file.path] if known else []
          continue
        if isinstance(outcome, Same):
          self._restamp(outcome)
        elif isinstance(outcome, Copy):
          copies.append(outcome)
        else:
          self._read(outcome)
        self._count(outcome, known, moved)
        while len(self._fresh) >= BATCH:
          self._encode(BATCH)
        full = len(self._rows) + len(copies) + len(self._restamped) >= COMMIT
        if full or time.monotonic() - self._last > EVERY:
          self._commit(copies)
          if bar.disable:
            rate = seen / (time.monotonic() - began)  # a hidden bar counts nothing
            self.say(f"{seen:,} of {len(files):,} pictures, {rate:.1f} images/s")
    self._encode(BATCH)
    self._commit(copies)
    self.done.seconds = time.monotonic() - began
    return self._vanished

  def _count(self, outcome, known: Known | None, moved: dict[str, int]) -> None:
    if isinstance(outcome, Same):
      self.done.unchanged += 1
    elif known is not None:
      self.done.changed += 1
    elif moved.get(outcome.hash):
      moved[outcome.hash] -= 1
      self.done.renamed += 1
    else:
      self.done.new += 1

  def _outcomes(self, files, known, contents) -> Iterator[reading.Outcome]:
    folder = self.asked.images
    return reading.outcomes(folder, files, known, contents, self.encoder, self.cutter)

  def _read(self, each: Fresh | Frame | Broken) -> None:
    """Takes in a file that was read to its end, or as far as it could be."""
    if isinstance(each, Broken):
      row = self._row(each.file, each.hash, None)
      self._rows.append(row | dict(kind=each.kind, problem=each.problem))
      return
    row = self._row(each.file, each.hash, each.time)
    row.update(width=each.width, height=each.height)
    if isinstance(each, Fresh):
      self._fresh.append((row | dict(thumbnail=each.thumbnail), each.prepared))
      return
    self.done.frames += 1
    self.done.people += len(each.people)
    self.done.left_out.update(each.left_out)
    if not each.people:
      self._rows.append(row | dict(kind=EMPTY, problem="no person found"))
    for person in each.people:
      self._fresh.append((row | person.columns(each.hash), person.prepared))

  def _encode(self, most: int) -> None:
    """Turns the first of what waits into whole rows."""
    part, self._fresh = self._fresh[:most], self._fresh[most:]
    if not part:
      return
    prepared = [each for _, each in part]
    if self.look is None:
      vectors, kept = self.encoder().encode_images(prepared), None
    else:
      vectors, kept = self.encoder().keep_images(prepared)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
      bad = part[int(np.argmin(finite))][0]["path"]
      raise SearchError(
        f"the model's row of {bad} is not finite: its weights are damaged, or it"
        " overflows"
      )
    for at, ((row, _), vector) in enumerate(zip(part, vectors, strict=True)):
      if kept is not None:
        row[KEPT] = self.look.pack(kept[at])
      self._rows.append({**row, "vector": vector})
    self.done.encoded += len(part)

  def _row(self, file: Found, digest: str, taken: Any) -> dict[str, Any]:
    """What is known of a file; a frame without people has the number 0."""
    described = self.sidecar.of(file.path) if self.sidecar else {}
    row = dict(path=file.path, **reading.stamps(file, self._now))
    row |= {self.store.content: digest} | (dict(person=0) if self.cutter else {})
    row |= {name: value for name, value in described.items() if name != sidecar.TIME}
    return row | dict(file_time=taken, time=described.get(sidecar.TIME) or taken)

  def _restamp(self, each: Same) -> None:
    """The content is the same and the file's times are not."""
    row = self._row(each.file, "", each.time)
    known, file = self.known[each.file.path], each.file
    stamps = (row["size"], row["modified"], row["changed"])
    if stamps == (known.size, known.modified, known.changed):
      return  # too young to be trusted, as before
    if file.modified == known.modified:
      # Rights or a name changed: the time that the side-car gave stays without it.
      row = {k: row[k] for k in ("path", "size", "modified", "changed")}
    self._restamped.append(row)

  def _commit(self, copies: list[Copy]) -> None:
    if copies:
      self._copy(copies)
      copies.clear()
    # A frame waits until all of its people are encoded.
    held = {row["path"] for row, _ in self._fresh}
    waiting = [row for row in self._rows if row["path"] in held]
    self._rows = [row for row in self._rows if row["path"] not in held]
    timed = [row for row in self._restamped if "time" in row]
    plain = [row for row in self._restamped if "time" not in row]
    if self.sidecar is None:
      self._keep_metadata([*self._rows, *timed])
    if self._rows:
      paths = {row["path"] for row in self._rows}
      self.store.put(self._rows, replaces=not paths.isdisjoint(self._there))
      self._there |= paths
    self._rows = waiting
    stamps = ["size", "modified", "changed"]
    if timed:
      self.store.update(timed, [*stamps, "file_time", "time"])
    if plain:
      self.store.update(plain, stamps)
    self._restamped = []
    self._last = time.monotonic()

  def _copy(self, copies: Sequence[Copy]) -> None:
    """Rows whose content the index has; those that it had are encoded again.

    Names may have moved on by one (b to c, a to b): the only row of a content has then
    been replaced in an earlier batch of this run.
    """
    there = self.store.with_hash(each.hash for each in copies)
    for each in copies:
      own = self._row(each.file, each.hash, each.time)
      for row in there.get(each.hash, ()):
        number = dict(person=row["person"]) if self.cutter else {}
        self._rows.append({**row, **own, **number})
    lost = [each.file for each in copies if each.hash not in there]
    if not lost:
      return
    for outcome in self._outcomes(lost, {}, ()):
      if not isinstance(outcome, Gone):
        self._read(outcome)
      elif outcome.file.path in self.known:
        self._vanished.append(outcome.file.path)
    while self._fresh:
      self._encode(BATCH)

  def _keep_metadata(self, rows: Sequence[dict[str, Any]]) -> None:
    """Without a side-car, what an earlier one said of a path stays."""
    names = list(self.store.metadata)
    there = [row for row in rows if row["path"] in self._there]
    old = self.store.take([row["path"] for row in there], [*names, "time", "file_time"])
    for row, before in zip(there, old, strict=True):
      row.update((name, before[name]) for name in names)
      if before["time"] != before["file_time"]:
        row["time"] = before["time"]

  # --- metadata -------------------------------------------------------------------

  def _describe(self) -> None:
    """Brings the columns of the side-car to what it says now."""
    names = [name for name in self.sidecar.columns if name != sidecar.TIME]
    columns = [*names, "time"]
    pending: dict[str, dict[str, Any]] = {}  # by path: people of a frame have one
    for batch in list(self.store.read(["path", "file_time", *columns])):
      for row in batch.to_pylist():
        said = self.sidecar.of(row["path"])
        said[sidecar.TIME] = said.get(sidecar.TIME) or row["file_time"]
        if any(row[name] != said[name] for name in columns):
          pending[row["path"]] = dict(path=row["path"], **said)
    rows = [*pending.values()]
    for start in range(0, len(rows), _UPDATED):
      self.store.update(rows[start : start + _UPDATED], columns)
    self.done.described = len(rows)
    files = {sidecar.key(file.path) for file in self.walked.files}
    if lost := [path for path in self.sidecar.rows if path not in files]:
      self.say(
        f"{self.asked.metadata}: {len(lost):,} of {len(self.sidecar.rows):,} rows name"
        f" no picture of the folder, for example {lost[0]}"
      )
    if bare := len(files - set(self.sidecar.rows)):
      self.say(f"{self.asked.metadata}: says nothing of {bare:,} pictures")
