"""Do scores of words find the wrong ones? Asked of some captions as training goes on.

The captions are some of those trained on, noise included, with their images as an
evaluation sees them. Where the data knows which words are wrong (rendered people with
word_noise) each kind of score gets its area under the ROC (metrics/roc.py); where it
does not, words can still be looked at.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from tpr_jax import dual_masking, word_files
from tpr_jax.core import compiling, sharding
from tpr_jax.core.types import Params
from tpr_jax.data import captions as captions_of
from tpr_jax.data import word_truth
from tpr_jax.data.examples import load_picture
from tpr_jax.data.record import Dataset, DatasetError, ImageError
from tpr_jax.data.tokenizer import Tokenizer
from tpr_jax.data.transforms import Pipe
from tpr_jax.metrics import roc
from tpr_jax.metrics.uncertainty import Bootstrap

SHOWN = 16  # captions whose words are kept, for the report to draw from
_FEW = Bootstrap(resamples=40)  # an interval costs little next to the scores
_CHOICE = 0x3C0E5  # stream of random numbers


class Captions(NamedTuple):
  """The captions that are asked about; n of them.

  Attributes:
    record, number: int32 [n], which caption of which record.
    image: [n, H, W, 3] as the pipe leaves them; text: int32 [n, L].
    wrong, word: bool [n, L], of the tokens of `text`.
    known: whether the data says which words are wrong.
  """

  record: np.ndarray
  number: np.ndarray
  image: np.ndarray
  text: np.ndarray
  wrong: np.ndarray
  word: np.ndarray
  known: bool


def check(kinds: Sequence[str], captions: int) -> None:
  """Raises ValueError for kinds of score that there are not, or a negative number."""
  known = [kind for kind in dual_masking.SCORES if kind != "none"]
  unknown = [kind for kind in kinds if kind not in known]
  if unknown or not kinds or len(set(kinds)) < len(kinds) or captions < 0:
    raise ValueError(
      f"eval.word_scores: kinds={tuple(kinds)}, captions={captions}: expected some of"
      f" {', '.join(known)}, each once, and a number of captions (0: none)"
    )


def choose(
  dataset: Dataset,
  count: int,
  *,
  tokenizer: Tokenizer,
  pipe: Pipe,
  length: int,
  seed: int = 0,
) -> Captions:
  """Draws `count` captions (or all, if there are fewer) that have words and a picture.

  Raises:
    DatasetError: nothing is left of them.
  """
  record, number = captions_of.index(dataset)
  order = np.random.default_rng([seed, _CHOICE]).permutation(len(record))
  rows, known = [], True
  for at in order:
    if len(rows) == count:
      break
    one, caption = dataset.records[record[at]], int(number[at])
    text, tokens = tokenizer.encode([one.captions[caption]], length)
    if tokens[0] <= 2:
      continue
    try:
      image = load_picture(dataset, int(record[at]), pipe, pipe.size, None)
    except ImageError:  # training meets it too, counts it and lists it
      continue
    if word_truth.known(one):
      wrong, word = word_truth.wrong_tokens(tokenizer, one, caption, length)
    else:
      known, place = False, np.arange(length)
      word = (place > 0) & (place < text[0].argmax())
      wrong = np.zeros(length, bool)
    rows.append((record[at], number[at], image, text[0], wrong, word))
  if not rows:
    raise DatasetError(
      f"{dataset.name}/{dataset.split}: no caption with words and a readable picture to"
      " score; set --config.eval.word_scores.captions=0"
    )
  return Captions(*(np.stack(each) for each in zip(*rows, strict=True)), known)


class Scorer:
  """Scores the words of fixed captions by each kind, for any parameters.

  Args:
    dual, rules: as of `dual_masking.DualMasking`; of the former its `score` is
      replaced by each of the kinds.
    captions: what `choose` gave of `dataset`, with this `tokenizer`.
    how: of the areas' intervals; None: without.
    batch: rows at a time; a multiple of the devices that split it.
  """

  def __init__(
    self,
    model: Any,
    mesh: Mesh,
    *,
    dual: Mapping[str, Any],
    rules: Mapping[str, Any],
    kinds: Sequence[str],
    captions: Captions,
    dataset: Dataset,
    tokenizer: Tokenizer,
    batch: int,
    how: Bootstrap | None,
  ):
    self._kinds, self._captions = tuple(kinds), captions
    self._dataset, self._tokenizer = dataset, tokenizer
    self._batch, self._batch_sh = batch, sharding.batch_sharding(mesh)
    self._how = how or _FEW
    each = [
      dual_masking.DualMasking(model, {**dual, "score": kind}, rules) for kind in kinds
    ]

    def run(params: Params, image: jax.Array, text: jax.Array, key: jax.Array):
      seen = model.apply({"params": params}, image, method="encode_image")
      keys = jax.random.split(key, len(text))
      return [made.scores(params, seen, text, keys) for made in each]

    whole, told = sharding.replicated(mesh), compiling.options(mesh)
    self._run = jax.jit(run, out_shardings=whole, compiler_options=told)

  def scores(self, params: Params, seed: int = 0) -> dict[str, np.ndarray]:
    """kind -> float32 [n, L], the tokens of every caption."""
    image, text, found = self._captions.image, self._captions.text, []
    for at in range(0, len(text), self._batch):
      rows = [x[at : at + self._batch] for x in (image, text)]
      lack = self._batch - len(rows[1])
      rows = [np.concatenate([x, np.repeat(x[:1], lack, axis=0)]) for x in rows]
      placed = sharding.put(rows, self._batch_sh)
      key = jax.random.fold_in(jax.random.key(seed), at)
      found.append(jax.device_get(self._run(params, *placed, key)))
    return {
      kind: np.concatenate(parts)[: len(text)]
      for kind, parts in zip(self._kinds, zip(*found, strict=True), strict=True)
    }

  def __call__(self, step: int, params: Params) -> word_files.WordScores:
    """All kinds at one step: areas over every token, words of the first captions."""
    found, asked = self.scores(params), self._captions
    caption = np.broadcast_to(np.arange(len(asked.text))[:, None], asked.word.shape)
    areas = {
      kind: roc.measure(
        each[asked.word], asked.wrong[asked.word], caption[asked.word], self._how
      )
      for kind, each in found.items()
    }
    length, shown = asked.text.shape[1], []
    for row in range(min(SHOWN, len(asked.text))):
      index, number = int(asked.record[row]), int(asked.number[row])
      record = self._dataset.records[index]
      words = word_truth.words(self._tokenizer, record, number, length)
      of_row = {kind: each[row] for kind, each in found.items()}
      shown.append(word_files.caption(index, record, number, words, of_row))
    return word_files.WordScores(
      step=step,
      data=f"{self._dataset.name}/{self._dataset.split}",
      areas=areas,
      captions=tuple(shown),
      level=self._how.level,
    )
