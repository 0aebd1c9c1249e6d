"""`--mode=filter`: scores every pair of a split once, and cuts as often as asked.

OUT/scores/ holds the parts that are finished; the same command again does the others.
When all are there, filter.jsonl takes their place. Then another k, quantile or
keep_ratio is cut from it, without model or pictures.

Several processes (--distributed) share the parts and the folder; the first one puts
them together. Neither their number nor that of devices changes a byte of filter.jsonl.
"""

import contextlib
import itertools
import pathlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tpr_jax import config as configs
from tpr_jax import run_folder
from tpr_jax.core import lock, processes
from tpr_jax.core.times import duration
from tpr_jax.data import build, kept
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import Dataset
from tpr_jax.filter import cut, manifest, pool, rule, scorers, scoring
from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.settings import Settings, Split

_EVERY = 20.0  # seconds between lines of progress
_GENERIC = "kept.jsonl"
_MENDED = "(Of a filter: --config.max_broken.) The same command goes on from there."


class Filter:
  """A filter and its folder.

  Args:
    asked: checked settings.
    out: the folder that everything is written to.
  """

  def __init__(self, asked: Settings, out: pathlib.Path):
    self.asked, self.out = asked, out
    self.active = jax.process_index() == 0
    self._began = time.monotonic()

  def __call__(self) -> int:
    """Scores what is missing, cuts, and writes the manifest and the kept set.

    Raises:
      FilterError: the folder holds something else, or the pairs cannot be scored.
      BadData: more pictures are unreadable than `max_broken` allows.
      DatasetError, LoadError and the like: of the data and the model.
    """
    with self._alone():
      with processes.together():
        self._read()
        finished = self._finished()
      if not finished:
        with processes.together():
          self._score()
      with processes.together():
        if self.active:
          self._assemble(finished)
    processes.leave()
    return 0

  # --- before ---------------------------------------------------------------------

  def _read(self) -> None:
    """Data, pool, and what tells these scores from others."""
    asked = self.asked
    self.data = _dataset(asked.data)
    self.listing = kept.listing(self.data)
    self.pairs = int(self.listing.counts.sum())
    if not self.pairs:
      raise FilterError(f"{self._name} has no captions: there is nothing to filter")
    self.say(
      f"{self._name}: {len(self.data.records):,} images, {self.pairs:,} captions"
      + "".join(f"; {note.text}" for note in self.data.notes)
    )
    other = asked.pool.source
    corpus = self.data if other is None else _dataset(other)
    counts = self.listing.counts if other is None else kept.listing(corpus).counts
    self.drawn = pool.draw(corpus, counts, asked.pool)
    excluded = [
      what
      for what, is_so in (
        ("its own caption", asked.pool.exclude_self),
        ("captions of the same person", asked.pool.exclude_same_id),
      )
      if is_so
    ]
    self.say(
      f"Pool: {asked.pool.size:,} captions drawn from {self.drawn.corpus:,} of"
      f" {corpus.name}/{corpus.split} with seed {asked.pool.seed}; not counted against"
      f" a pair: {' and '.join(excluded) or 'none are excluded'}"
    )
    self._check_k()
    self.scoring = configs.plain(
      dict(
        data=dict(
          name=self.data.name,
          split=self.data.split,
          options=dict(asked.data.options),
          records=len(self.data.records),
          pairs=self.pairs,
          digest=self.listing.digest,
        ),
        pool=dict(
          name=corpus.name,
          split=corpus.split,
          size=asked.pool.size,
          seed=asked.pool.seed,
          replace=asked.pool.replace,
          one_caption_per_image=asked.pool.one_caption_per_image,
          exclude_self=asked.pool.exclude_self,
          exclude_same_id=asked.pool.exclude_same_id,
          **self.drawn.about(),
        ),
        scorer=scorers.about(asked.scorer),
      )
    )

  def _check_k(self) -> None:
    k, size = cut.threshold(self.asked.cut, self.asked.pool.size), self.asked.pool.size
    if k is not None and k > size:
      self.say(
        f"WARNING: k={k:,} is larger than the pool of {size:,} captions: every pair is"
        " kept"
      )

  def _finished(self) -> bool:
    """Is all scored? Raises FilterError where the folder holds something else."""
    there = configs.read_json(self.out / "config.json")
    if there and not {"cut", "pool"} <= set(there):
      raise FilterError(f"--out={self.out} holds a run; give another folder")
    path = self.out / kept.MANIFEST
    if path.is_file():
      self._same(kept.header(self.out), path)
      return True
    path = self._scores / "scoring.json"
    if path.is_file():
      self._same(configs.read_json(path), path)
    return False

  def _same(self, there: dict[str, Any], path: pathlib.Path) -> None:
    old = {name: there.get(name) for name in self.scoring}
    if changed := configs.differences(old, self.scoring):
      listed = "\n  ".join(changed)
      raise FilterError(
        f"{path} is of other scores (there -> asked):\n  {listed}\nGive another folder"
        " with --out=DIR; only the fields of `cut` may differ where all is scored"
      )

  # --- scores ---------------------------------------------------------------------

  @property
  def _scores(self) -> pathlib.Path:
    return self.out / "scores"

  def _parts(self) -> list[tuple[pathlib.Path, int, int]]:
    """(file, first record, end) of every part."""
    size, total = scoring.part_size(self.asked.scorer.batch), len(self.data.records)
    return [
      (self._scores / f"part-{number:06d}.jsonl", start, min(start + size, total))
      for number, start in enumerate(range(0, total, size))
    ]

  def _score(self) -> None:
    """This process's share of the parts that are missing, or hold broken pictures."""
    asked, index, count = self.asked, jax.process_index(), jax.process_count()
    self._scores.mkdir(parents=True, exist_ok=True)
    if self.active:
      configs.write_json(self.out / "config.json", asked.config)
      configs.write_json(self._scores / "scoring.json", self.scoring)
    parts = self._parts()
    own = [part for part in parts[index::count] if not _done(part[0])]
    there = sum(part[0].exists() for part in parts)
    if there:
      self.say(f"{there:,} of {len(parts):,} parts are there already")
    if not own:
      return
    scorer = scorers.build(asked.scorer)
    self.say(f"Scored by {scorer!r}; of the pool {scorer.report(self.drawn.texts)}")
    features = scorer.encode_texts(self.drawn.texts)
    numbers = self.drawn.people, self.drawn.keys
    counter = rule.Counter(features, *numbers)
    score = scoring.Scoring(
      self.data,
      self.listing.counts,
      scorer,
      self.drawn,
      counter,
      threads=asked.threads,
    )
    damage, began, told, done = self._damage(), time.monotonic(), 0.0, 0
    total = sum(stop - start for _, start, stop in own)
    for path, start, stop in own:
      lines = score(start, stop)
      kept.write_lines(path, lines)
      for line in lines:
        if scoring.PROBLEM in line:
          damage.add(line["image"], *line[scoring.PROBLEM])
      damage.check(asked.max_broken, after=_MENDED)
      done += stop - start
      spent = time.monotonic() - began
      if spent - told > _EVERY or done == total:
        told = spent
        self.say(
          f"  {done:,} of {total:,} images"
          + (" of this process's share" if count > 1 else "")
          + f", {done / spent:,.1f} a second, about"
          f" {duration((total - done) * spent / done)} left"
        )

  def _damage(self) -> Damage:
    return Damage(self._name, len(self.data.records))

  # --- the manifest ---------------------------------------------------------------

  def _assemble(self, finished: bool) -> None:
    asked, path = self.asked, self.out / kept.MANIFEST
    parts = [part for part, _, _ in self._parts()]
    if not finished and (absent := [p for p in parts if not p.is_file()]):
      raise FilterError(
        f"{absent[0]} is not there, of another process: all processes must write to one"
        f" folder; --out={self.out} is not shared"
      )
    lines = manifest.of_manifest(path) if finished else manifest.of_parts(parts)
    about = kept.header(self.out) if finished else self._surroundings()
    damage = self._damage()
    scored, keys = manifest.scored(lines, self.pairs, damage)
    damage.check(asked.max_broken, after=_MENDED)  # all processes' together
    if not scored.real.any():
      raise FilterError(f"none of the pictures of {self._name} can be read")
    keep = cut.decide(scored, asked.cut, asked.pool.size)
    counts = cut.summary(scored, keep)
    header = dict(
      format=1,
      **self.scoring,
      k=cut.threshold(asked.cut, asked.pool.size),
      cut=dict(by=asked.cut.by, value=asked.cut.value),
      min_pairs_per_id=asked.cut.min_pairs_per_id,
      **counts,
      versions=about["versions"],
      devices=about["devices"],
    )
    files = self._listed()
    origins = manifest.Origins(files, self._name)
    twice = len(keys) - len(np.unique(keys))
    if not finished:
      problems = dict(damage.to_json(), duplicated_pairs=twice)
      configs.write_json(self.out / "problems.json", problems)
    configs.write_json(self.out / "config.json", asked.config)
    manifest.write(path, header, lines, keys, keep, origins)
    shutil.rmtree(self._scores, ignore_errors=True)
    self._tell(counts, scored, damage, twice, origins.unlisted, finished)
    self._write_set(files, np.unique(keys[keep]))
    self.say(
      f"Written: {path} ({duration(time.monotonic() - self._began)})\nSee it:"
      f" python -m tpr_jax.main --mode=report --run={self.out}\nTrain on what is left:"
      f" --config.data.filter={self.out}"
    )

  def _surroundings(self) -> dict[str, Any]:
    kinds = {f"{each.platform}:{each.device_kind}" for each in jax.devices()}
    return dict(versions=run_folder.versions(), devices=sorted(kinds))

  def _listed(self) -> list[Any]:
    data = self.asked.data
    return build.listed(data.name, data.root, data.split, data.options)

  def _tell(self, counts, scored, damage, twice, unlisted, finished) -> None:
    if damage:
      self.say(
        f"Pictures that cannot be read: {len(damage):,}. Their pairs are not kept."
      )
      self.say("\n".join(damage.lines()))
      self.say(f"All are listed in {self.out / 'problems.json'}.")
    elif finished and counts["unreadable"]:
      self.say(
        f"{counts['unreadable']:,} pairs have no readable picture (problems.json) and"
        f" are not kept; to look again, remove {self.out / kept.MANIFEST}"
      )
    if twice:
      self.say(
        f"{twice:,} pairs are listed more than once: the same caption of the same image"
      )
    if unlisted:
      self.say(
        f"{unlisted:,} entries of the annotation files are no pair, and are not in the"
        " kept set"
      )
    c = scored.c[scored.real]
    ends = {q: int(np.quantile(c, q / 100, method="higher")) for q in (50, 90)}
    middle = ", ".join(f"{q} % of pairs have c <= {end:,}" for q, end in ends.items())
    by = f"{self.asked.cut.by}={self.asked.cut.value:g}"
    self.say(
      f"Kept by {by}: {counts['kept']:,} of {counts['pairs']:,} pairs"
      f" ({100 * counts['kept'] / counts['pairs']:.2f} %),"
      f" {counts['identities_kept']:,} of {counts['identities']:,} identities; {middle}"
    )

  def _write_set(self, files: list[Any], keys: np.ndarray) -> None:
    """The annotations of what is kept, below OUT/kept."""
    folder = self.out / "kept"
    if files:
      count = manifest.write_set(folder, files, keys)
      self.say(
        f"{folder}: {count:,} entries in the set's own format ({len(files):,} files)"
      )
    elif self.data.stream is None:
      folder.mkdir(exist_ok=True)
      kept.write_lines(folder / _GENERIC, _records(self.data, keys))
      self.say(f"{folder / _GENERIC}: the kept pairs, as data.name=lines reads them")
    else:
      self.say(
        "No annotations are written of shards: train on them with data.filter, or write"
        " shards of what is kept: --mode=shards with --config.data.filter"
      )

  # --- around them ----------------------------------------------------------------

  @property
  def _name(self) -> str:
    return f"{self.data.name}/{self.data.split}"

  @contextlib.contextmanager
  def _alone(self) -> Iterator[None]:
    if not self.active:
      yield
      return
    try:
      with lock.alone(self.out / ".filter.lock", "--mode=filter"):
        yield
    except lock.Locked as error:
      raise FilterError(
        f"{self.out}: another filter is at work there; wait for it, or give another"
        " folder with --out=DIR"
      ) from error

  def say(self, text: str) -> None:
    if self.active:
      print(text, flush=True)


def _dataset(asked: Split) -> Dataset:
  return build.dataset(asked.name, asked.root, asked.split, asked.options)


def _done(path: pathlib.Path) -> bool:
  """Is a part there, without pictures that may have been mended since?"""
  return path.is_file() and f'"{scoring.PROBLEM}": [' not in path.read_text("utf-8")


def _records(data: Dataset, keys: np.ndarray) -> Iterator[dict[str, Any]]:
  """Rows for `sources/lines.py` of the records that keep a caption."""
  for record in data.records:
    mine = kept.among(np.array(kept.keys_of(record), np.int64), keys)
    if mine.any():
      captions = list(itertools.compress(record.captions, mine.tolist()))
      rest = {k: v for k, v in record.truth.items() if k not in _TAKEN}
      yield dict(
        rest,
        image=record.image,
        identity=record.identity,
        captions=captions,
        split=record.split,
      )


# Names that `sources/folder.py` takes, and truth that has an entry for each caption.
_TAKEN = ("image", "file_path", "img_path", "caption", "captions", "identity", "id")
_TAKEN += ("split", "caption_truth")


def run(asked: Settings, out: pathlib.Path) -> int:
  """-> exit status; as `Filter`."""
  return Filter(asked, out)()
