"""What else a row shows: a region with its phrase, EDA, masked words, attributes.

MRA (arXiv:2507.10195) pre-trains on regions and phrases beside pictures and captions,
fine-tunes on a second view of each caption, and masks words on the host; APTM
(arXiv:2306.02898) pre-trains on attributes, of which a row has the labels. Each view
has random numbers of its own, [seed, position, its constant], so it changes no other,
and the same position shows the same whatever else is asked for. Off unless asked for.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax.data import eda, prompts, regions, span_masking
from tpr_jax.data import synonyms as synonym_lists
from tpr_jax.data.record import Record
from tpr_jax.data.tokenizer import Tokenizer

_REGION, _EDA, _MASK = 0x4E6107, 0xEDA, 0x3A5C  # streams of random numbers
_MASKING = [
  name
  for name, parameter in inspect.signature(span_masking.mask).parameters.items()
  if parameter.kind is parameter.KEYWORD_ONLY
]
_EMPTY = 2  # tokens of a text without words: start and end


@dataclasses.dataclass(frozen=True)
class Views:
  """Which views there are: the fields of `config.data.views` (configs/common.py).

  Attributes:
    region: (rows, columns) of the patches of a picture; (): no regions.
    eda: "synonyms" (synonyms.ROUTES) and the rate of each of eda.OPERATIONS; synonyms
      "": no such view.
    mask: the arguments of span_masking.mask; rule "": nothing is masked.
    attributes: which prompts the labels are of (prompts.build); "": none.

  Raises:
    ValueError: values that cannot be used.
  """

  region: tuple[int, ...] = ()
  eda: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  mask: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  attributes: str = ""

  def __post_init__(self):
    object.__setattr__(self, "region", tuple(self.region))
    object.__setattr__(self, "eda", dict(self.eda) if self.eda.get("synonyms") else {})
    object.__setattr__(self, "mask", dict(self.mask) if self.mask.get("rule") else {})
    whole = [isinstance(n, int) and n > 0 for n in self.region]
    if self.region and (len(whole) != 2 or not all(whole)):
      raise ValueError(
        f"data.views.region={self.region}: expected (rows, columns) of the patches of"
        " a picture, as (7, 7), or () for no regions"
      )

  def shapes(self, text: int, length: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """Key of a batch -> (shape of a row, dtype).

    Args:
      text: tokens of `batch["text"]`; length: text length L (they differ in buckets).
    """
    found = {}
    if self.region:
      found["region"] = ((self.region[0] * self.region[1],), np.bool_)
      found["phrase"], found["phrase_id"] = ((length,), np.int32), ((), np.int32)
    if self.eda:
      found["eda"] = ((length,), np.int32)
    if self.mask:
      found["masked"] = found["labels"] = ((text,), np.int32)
    if self.attributes:
      count = prompts.build(self.attributes).attributes
      found["attributes"] = ((count,), np.int32)
    return found


def build(fields: Mapping[str, Any] | None) -> Views:
  """Of `config.data.views`; None: no views.

  Raises:
    ValueError: an unknown field, or a value that cannot be used.
  """
  fields = dict(fields or {})
  _check_names("", fields, [field.name for field in dataclasses.fields(Views)])
  _check_names("mask.", fields.get("mask", ()), _MASKING)
  return Views(**fields)


def _check_names(section: str, found: Iterable[str], known: Sequence[str]) -> None:
  if unknown := sorted(set(found) - set(known)):
    raise ValueError(
      f"data.views.{section}{unknown[0]} is unknown; known: {', '.join(known)}"
    )


class Viewer:
  """The views of each row. Picklable.

  Args:
    length: of texts.
    first: of the ids of phrases; those below are ids of pictures.

  Raises:
    ValueError: views that the tokenizer or each other's values do not allow.
    SynonymsError: there are no such synonyms.
  """

  def __init__(
    self, views: Views, tokenizer: Tokenizer, length: int, seed: int, first: int
  ):
    self.views, self._tokenizer, self._length = views, tokenizer, length
    self._seed, self._first = seed, first
    self._eda = self._prompts = None
    if views.attributes:
      self._prompts = prompts.build(views.attributes)
    if views.eda:
      rates = {name: rate for name, rate in views.eda.items() if name != "synonyms"}
      made = synonym_lists.build(views.eda["synonyms"])
      self._eda = dict(synonyms=made, rates=rates or eda.RATES)
    if views != Views():  # wrong values come to light now, and not at the first batch
      text = tokenizer.encode(["a man"], length)[0][0]
      blank = np.zeros((1, 1, 3), np.uint8)
      record = Record("", 0, ("a man",), "train")
      shown = dict(image=blank, caption="a man", record=record, box=None, phrase=None)
      self(shown, text, text, 0, 0)

  def report(self) -> str:
    """What a log has to know of them, as a line; "" for nothing."""
    return self._eda["synonyms"].describe() if self._eda else ""

  def region(self, record: Record, image: np.ndarray, position: int) -> dict[str, Any]:
    """What the random ops of a pipe get beside picture, caption and record.

    image: the picture that they get. Raises DatasetError where regions are of another
    form (regions.of).
    """
    if not self.views.region:
      return {}
    rng = self._rng(position, _REGION)
    box, phrase = regions.choose(record, rng, *image.shape[:2])
    return {"box": box, "phrase": phrase}

  def __call__(
    self,
    example: Mapping[str, Any],
    full: np.ndarray,
    text: np.ndarray,
    label: int,
    position: int,
  ) -> dict[str, np.ndarray]:
    """The keys of `Views.shapes`, of one row.

    Args:
      example: what the pipe has made.
      full: ids of its caption, int32 [length]; text: as the row shows them.
      label: training label of the row.
    """
    found = {}
    if self.views.region:
      found.update(self._region(example, full, label))
    if self._eda:
      rng = self._rng(position, _EDA)
      changed = eda.one(example["caption"], rng, **self._eda)
      found["eda"] = self._tokenizer.encode([changed], self._length)[0][0]
    if self.views.mask:
      rng = self._rng(position, _MASK)
      masked = span_masking.mask(text, rng, self._tokenizer, **self.views.mask)
      found["masked"], found["labels"] = masked
    if self._prompts:
      found["attributes"] = prompts.of(example["record"], self._prompts.attributes)
    return found

  def _region(self, example, full: np.ndarray, label: int) -> dict[str, np.ndarray]:
    box, phrase = example["box"], example["phrase"]
    told = None
    if phrase is not None and box is not None:
      ids, counts = self._tokenizer.encode([phrase], self._length)
      told = ids[0] if counts[0] > _EMPTY else None
    if told is None and phrase is not None:
      box = None  # dropped, or without words: the whole picture and its caption instead
    number = label if told is None else regions.phrase_id(phrase, self._first)
    return {
      "region": regions.cells(box, example["image"].shape[:2], self.views.region),
      "phrase": full if told is None else told,
      "phrase_id": np.int32(number),
    }

  def _rng(self, position: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([self._seed, position, stream])
