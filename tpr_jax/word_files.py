"""Scores of the words of some captions at one step: `words/STEP.npz` in a run folder.

Written while training (which scores, says the model's side), drawn by the report. No
JAX here. K kinds of score, S captions, W_s words of each. The file holds `step` [];
`data`, a string; `kinds` strings [K]; of all tokens that were measured `auc`, `low`,
`high`, `by_caption` float64 [K], `captions`, `wrong`, `right` int64 [K], `note` strings
[K] (metrics/roc.py) and `level` float64 []; of the shown captions `record`, `number`
int32 [S], `image` strings [S], and of their words, those of caption s from
`first_word[s]` to `first_word[s + 1]`, `words` strings, `word_wrong` bool and `scores`
float32 [K, sum W_s].
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tpr_jax.core import npz
from tpr_jax.data import word_truth
from tpr_jax.data.record import Record
from tpr_jax.data.word_truth import Word
from tpr_jax.metrics.roc import Area

_AREA = tuple(field.name for field in dataclasses.fields(Area))
_COUNTS = ("captions", "wrong", "right")


class WordFileError(Exception):
  """A file of word scores cannot be used: names it and says why."""


@dataclasses.dataclass(frozen=True)
class Caption:
  """One caption with its words and their scores.

  Attributes:
    record, number: which caption of which record of the data.
    image: the record's name of its image.
    words: W words as they are written.
    wrong: bool [W], told wrongly on purpose.
    scores: float32 [K, W], a row for each kind.
  """

  record: int
  number: int
  image: str
  words: tuple[str, ...]
  wrong: np.ndarray
  scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class WordScores:
  """What one step knows of its words.

  Attributes:
    step: of training.
    data: what the captions are from, "rendered/val".
    areas: kind of score -> how well it finds wrong tokens; gives the kinds' order.
    captions: some, to be shown. level: of the areas' intervals.
  """

  step: int
  data: str
  areas: Mapping[str, Area]
  captions: tuple[Caption, ...]
  level: float = 0.95

  @property
  def kinds(self) -> tuple[str, ...]:
    return tuple(self.areas)


def caption(
  index: int,
  record: Record,
  number: int,
  words: Sequence[Word],
  scores: Mapping[str, np.ndarray],
) -> Caption:
  """One caption out of its words (data/word_truth.py) and the scores of its tokens.

  Args:
    index: of the record in the data.
    number: of the caption in the record.
    scores: kind -> [length], of the ids of `Tokenizer.encode`.
  """
  rows = [word_truth.word_scores(words, each) for each in scores.values()]
  return Caption(
    record=index,
    number=number,
    image=record.image,
    words=tuple(word.text for word in words),
    wrong=np.array([word.wrong for word in words], bool),
    scores=np.array(rows, np.float32).reshape(len(scores), len(words)),
  )


def numbers(found: WordScores) -> dict[str, float]:
  """What `RunLog.words` logs: auc_KIND, low_KIND, high_KIND, by_caption_KIND, and the
  number of wrong_tokens and right_tokens."""
  line: dict[str, float] = {}
  for kind, area in found.areas.items():
    for name in ("auc", "low", "high", "by_caption"):
      line[f"{name}_{kind}"] = getattr(area, name)
    line |= {"wrong_tokens": area.wrong, "right_tokens": area.right}
  return line


def path(folder: pathlib.Path, step: int) -> pathlib.Path:
  return folder / "words" / f"{step}.npz"


def write(folder: pathlib.Path, found: WordScores) -> pathlib.Path:
  """Writes the step's file into a run folder, whole or not at all; returns its path.

  Raises:
    ValueError: captions whose scores do not fit their words or the kinds.
  """
  kinds, shown = found.kinds, found.captions
  for one in shown:
    count = len(one.words)
    if one.scores.shape != (len(kinds), count) or one.wrong.shape != (count,):
      raise ValueError(
        f"caption {one.number} of {one.image} has {count} words, scores"
        f" {one.scores.shape} and wrong {one.wrong.shape}; expected"
        f" {(len(kinds), count)} and {(count,)} for the kinds {', '.join(kinds)}"
      )
  areas, arrays = list(found.areas.values()), {}
  for name in _AREA:
    kind = np.int64 if name in _COUNTS else np.str_ if name == "note" else np.float64
    arrays[name] = np.array([getattr(area, name) for area in areas], kind)
  first = np.cumsum([0, *(len(one.words) for one in shown)])
  words = [word for one in shown for word in one.words]
  empty = np.zeros((len(kinds), 0), np.float32)
  place = path(folder, found.step)
  place.parent.mkdir(parents=True, exist_ok=True)
  partial = place.with_suffix(".tmp")
  with partial.open("wb") as file:
    np.savez_compressed(
      file,
      step=np.int64(found.step),
      data=np.str_(found.data),
      kinds=np.array(kinds, np.str_),
      level=np.float64(found.level),
      record=np.array([one.record for one in shown], np.int32),
      number=np.array([one.number for one in shown], np.int32),
      image=np.array([one.image for one in shown], np.str_),
      first_word=first.astype(np.int32),
      words=np.array(words, np.str_),
      word_wrong=np.concatenate([[], *(one.wrong for one in shown)]).astype(bool),
      scores=np.concatenate([empty, *(one.scores for one in shown)], axis=1),
      **arrays,
    )
  os.replace(partial, place)
  return place


def steps(folder: pathlib.Path) -> list[int]:
  """Steps of which a run folder has a file, ascending."""
  found = (folder / "words").glob("*.npz")
  return sorted(int(each.stem) for each in found if each.stem.isdecimal())


def read(place: pathlib.Path) -> WordScores:
  """One file.

  Raises:
    WordFileError: it cannot be read, or its arrays don't fit each other.
  """
  try:
    return npz.read(place, _scores)
  except ValueError as error:
    raise WordFileError(
      f"{place} cannot be used ({error}); delete it, or take it from the run again"
    ) from error


def _scores(arrays: Mapping[str, np.ndarray]) -> WordScores:
  kinds = tuple(str(kind) for kind in arrays["kinds"])
  shown, words = len(arrays["record"]), len(arrays["words"])
  expected = {
    **dict.fromkeys(("step", "data", "level"), ((), "iUf")),
    **{name: ((len(kinds),), _letter(name)) for name in _AREA},
    **dict.fromkeys(("record", "number"), ((shown,), "i")),
    "image": ((shown,), "U"),
    "first_word": ((shown + 1,), "i"),
    "words": ((words,), "U"),
    "word_wrong": ((words,), "b"),
    "scores": ((len(kinds), words), "f"),
  }
  for name, (shape, letters) in expected.items():
    found = arrays[name]
    if found.shape != shape or found.dtype.kind not in letters:
      raise ValueError(
        f"{name!r} has shape {found.shape} and type {found.dtype}, expected {shape}"
      )
  if len(set(kinds)) < len(kinds):
    raise ValueError(f"'kinds' names one twice: {', '.join(kinds)}")
  if not np.isfinite(arrays["scores"]).all():
    raise ValueError("'scores' holds a number that is not finite")
  first = arrays["first_word"]
  if first[0] != 0 or first[-1] != words or (np.diff(first) < 0).any():
    raise ValueError(f"'first_word' does not divide {words} words")
  captions = []
  for i in range(shown):
    part = slice(int(first[i]), int(first[i + 1]))
    captions.append(
      Caption(
        record=int(arrays["record"][i]),
        number=int(arrays["number"][i]),
        image=str(arrays["image"][i]),
        words=tuple(arrays["words"][part].tolist()),
        wrong=arrays["word_wrong"][part],
        scores=arrays["scores"][:, part],
      )
    )
  areas = {
    kind: Area(**{name: arrays[name][k].item() for name in _AREA})
    for k, kind in enumerate(kinds)
  }
  return WordScores(
    step=int(arrays["step"]),
    data=str(arrays["data"]),
    areas=areas,
    captions=tuple(captions),
    level=float(arrays["level"]),
  )


def _letter(name: str) -> str:
  """The numpy kind of an area's array."""
  return "i" if name in _COUNTS else "U" if name == "note" else "f"
