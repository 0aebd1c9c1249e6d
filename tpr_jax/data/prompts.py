"""Attribute prompts: two sentences for each attribute, and what records say of them.

  build("mals")      the 27 attributes of MALS (mals_prompts.txt)
  build("rendered")  those of rendered people (rendered/binary.py)
  build("PATH")      a text file of one's own: a sentence a line, two for each attribute

APTM (arXiv:2306.02898) trains on them beside captions. A record tells its attributes in
truth["label"]: a number for each, 0 where the first sentence of a pair is true, 1 where
the second is, -1 where neither is known; without the key none is known.
"""

import contextlib
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tpr_jax.data import span_masking
from tpr_jax.data.record import Dataset, DatasetError, ImageError, Record
from tpr_jax.data.rendered import binary
from tpr_jax.data.tokenizer import Tokenizer

KEY = "label"  # of Record.truth
UNKNOWN = -1
MALS = pathlib.Path(__file__).with_name("mals_prompts.txt")
ROUTES = ("mals", "rendered", "PATH")
# A prompt is short, so that this many ways to mask it are nearly all there are; they
# are made once, on the host, by the rule of captions, and a step draws one of them.
VARIANTS = 64
_MASK = 0xA77  # stream of random numbers
_LOOKED_AT = 1_000  # records of a stream that may be without any label


class Prompts(NamedTuple):
  """Sentences 2a and 2a + 1 are those of attribute a; `name` is the spec."""

  name: str
  sentences: tuple[str, ...]

  @property
  def attributes(self) -> int:
    return len(self.sentences) // 2


class Encoded(NamedTuple):
  """Prompts as tokens: P = 2A of them, L that of the longest, V = `VARIANTS`.

  Attributes:
    ids: int32 [P, L].
    masked: int32 [V, P, L], with words masked; labels: int32 [V, P, L], what was there,
      -1 elsewhere. None where nothing masks words.
  """

  ids: np.ndarray
  masked: np.ndarray | None = None
  labels: np.ndarray | None = None


def build(spec: str) -> Prompts:
  """The prompts that `config.data.views.attributes` names.

  Raises:
    ValueError: no such file, or one that is no list of pairs of different sentences.
  """
  if spec == "rendered":
    return Prompts(spec, binary.SENTENCES)
  return Prompts(spec, _read(MALS if spec == "mals" else pathlib.Path(spec)))


def _read(path: pathlib.Path) -> tuple[str, ...]:
  try:
    lines = path.expanduser().read_text("utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f"data.views.attributes={str(path)!r} cannot be read ({error}); expected one of"
      f" {', '.join(ROUTES)}"
    ) from error
  found = [" ".join(line.split()) for line in lines]
  found = tuple(line for line in found if line and not line.startswith("#"))
  wrong = [a for a, b in zip(found[::2], found[1::2], strict=False) if a == b]
  if wrong or not found or len(found) % 2:
    why = f"{wrong[0]!r} is both of a pair" if wrong else f"{len(found)} sentences"
    raise ValueError(
      f"{path}: {why}; expected a sentence a line, two different ones for each"
      " attribute (54 for MALS); empty lines and those with # in front are left out"
    )
  return found


def of(record: Record, attributes: int) -> np.ndarray:
  """int32 [attributes], in {0, 1, -1}: what a record says.

  Raises:
    DatasetError: its truth["label"] is no list of so many of these.
  """
  value = record.truth.get(KEY)
  if value is None:
    return np.full(attributes, UNKNOWN, np.int32)
  listed = isinstance(value, Sequence) and not isinstance(value, str)
  if not listed or len(value) != attributes or any(map(_is_wrong, value)):
    found = f"{len(value)} values, {str(value)[:60]}" if listed else repr(value)[:60]
    raise DatasetError(
      f"{record.image}: truth[{KEY!r}] holds {found}; expected a list of {attributes}"
      " values, each 0, 1 or -1: one for each pair of prompts (data.views.attributes)"
    )
  return np.array(value, np.int32)


def _is_wrong(value: Any) -> bool:
  return not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= 1


def check(dataset: Dataset, prompts: Prompts) -> None:
  """Has it labels at all, of these attributes?

  Records are looked at up to the first that has some; of a stream, the first ones.

  Raises:
    DatasetError: it has none, or some of another form.
  """
  looked_at = len(dataset.records)
  if dataset.stream is not None:
    looked_at = min(looked_at, _LOOKED_AT)
  for at in itertools.islice(range(len(dataset.records)), looked_at):
    with contextlib.suppress(ImageError):
      if (of(dataset.records[at], prompts.attributes) != UNKNOWN).any():
        return
  raise DatasetError(
    f"attributes of {dataset.name}/{dataset.split} are asked for"
    f" (data.views.attributes={prompts.name}), and none of the {looked_at:,} records"
    f" looked at knows any in truth[{KEY!r}]. Use a set that has them (mals, rendered"
    " people with their option labels=True, or shards or an archive of these), or"
    " leave data.views.attributes empty"
  )


def encode(
  prompts: Prompts,
  tokenizer: Tokenizer,
  *,
  length: int,
  masking: Mapping[str, Any],
  seed: int,
) -> Encoded:
  """The prompts as tokens, padded to the longest of them.

  Args:
    length: tokens that a text may have.
    masking: keyword arguments of span_masking.mask; {}: nothing is masked.
    seed: of the masks.

  Raises:
    ValueError: a prompt is longer than `length`, or what span_masking.mask refuses.
  """
  counts = tokenizer.encode(prompts.sentences, 3)[1]
  longest = int(counts.max())
  if longest > length:
    raise ValueError(
      f"the attribute prompt {prompts.sentences[int(counts.argmax())]!r} has {longest}"
      f" tokens; a text may have {length} (text.length)"
    )
  ids = np.asarray(tokenizer.encode(prompts.sentences, longest)[0], np.int32)
  if not masking:
    return Encoded(ids)
  rng = np.random.default_rng([seed, _MASK])
  made = [
    [span_masking.mask(row, rng, tokenizer, **masking) for row in ids]
    for _ in range(VARIANTS)
  ]
  both = np.array(made, np.int32)  # [V, P, 2, L]
  return Encoded(ids, both[:, :, 0], both[:, :, 1])
