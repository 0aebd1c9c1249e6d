"""The objective of APTM and MRA: ITC, ITM and masked words, and regions with phrases.

arXiv:2306.02898 and arXiv:2507.10195. `config.losses` weighs the terms:

  itc, itm            image and caption
  eda_itc, eda_itm    image and a second, edited view of the caption (data/eda.py)
  region_itc, region_itm  a region of the image and its phrase: the paper's RPC and RPM
  mlm                 masked words of the caption, with the image to look at
  attr_itc, attr_itm, attr_mlm  the same of image and attribute prompts (APTM's second
                      stream, attribute_stream.py)

As in objectives.py, `encode` is what each example gives by itself, and `reduce` what
needs the whole batch. Projections are part of `reduce`: batch normalisation sees the
GLOBAL batch, in as many pieces as it may have been encoded (the released code: each
device's 40 rows). Their running statistics come back among the metrics.

Where micro-batches change nothing, and where they do: towers, projections, ITC, ITM and
masked words are exact. Dropout and stochastic depth draw other numbers in other pieces.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tpr_jax import attribute_stream
from tpr_jax.attribute_stream import AttributeStream
from tpr_jax.core import numerics, pieces, sharding
from tpr_jax.core.numerics import masked_mean
from tpr_jax.core.types import Batch, Metrics, Outputs, Params
from tpr_jax.losses import itc, itm, matching, mlm
from tpr_jax.models import bert
from tpr_jax.models.cross_encoder import View
from tpr_jax.models.layers import batch_norm
from tpr_jax.ops import bins

LOSSES = (
  *("itc", "itm", "mlm", "eda_itc", "eda_itm", "region_itc", "region_itm"),
  *attribute_stream.LOSSES,
)
RUNNING = "running"  # metric: {parameter: value} that the step writes

# Streams of random numbers, beside the small ones of views and pairs.
_ATTRIBUTES, _MATCHING, _FUSED = 0xA77, 0x177, 0xF5E
_CHOICES = {
  "region_feature": ("region", "image"),
  "region_positives": ("phrase", "pair"),
}


def check(choices: Mapping[str, Any]) -> None:
  """Raises ValueError for a field of the config's `objective` that cannot be used."""
  for key, known in _CHOICES.items():
    if choices[key] not in known:
      raise ValueError(f"objective.{key}={choices[key]!r}: expected one of {known}")
  for key in ("label_smoothing", "itm_smoothing"):
    if not 0 <= choices[key] < 1:
      raise ValueError(f"objective.{key}={choices[key]}: expected 0 to below 1")
  for key, least in (("itm_group", 0), ("itm_pieces", 1)):
    if choices[key] < least:
      raise ValueError(
        f"objective.{key}={choices[key]}: expected {least} or more"
        + (" (0: the whole batch)" if least == 0 else "")
      )
  attribute_stream.check(choices)


@dataclasses.dataclass(frozen=True)
class CrossObjective:
  """loss(params, batch, key) in its two halves. Everything is pure.

  Attributes:
    model: a `CrossEncoder` with the heads that the losses need.
    weights: name of the loss -> weight, the active ones.
    choices: the config's `objective`; configs/cross_recipe.py says what a field does.
    most_masked: words of a caption that the input masks, at most.
    attributes: the stream of attribute prompts; None: no loss reads any.
  """

  model: nn.Module
  weights: Mapping[str, float]
  choices: Mapping[str, Any]
  most_masked: int = 1
  attributes: AttributeStream | None = None
  dual: None = None  # scores of words are CLIP's (dual_masking.py)

  def _on(self, *names: str) -> bool:
    return any(name in self.weights for name in names)

  def prepare(self, batch: Batch, key: jax.Array) -> Batch:
    """The batch with a key of its own, [B], for negatives and dropout of pairs."""
    return dict(batch, keys=jax.random.split(key, batch["text"].shape[0]))

  def encode(self, params: Params, batch: Batch, key: jax.Array) -> Outputs:
    """Tokens of every view, and the cross entropy of masked words: first axis B.

    Args:
      batch: as `prepare` returns it, or some rows of that.
      key: for dropout and drop_path.
    """

    def apply(stream, method, *args):
      rngs = {"dropout": jax.random.fold_in(key, stream)}
      return self.model.apply({"params": params}, *args, method=method, rngs=rngs)

    image = apply(0, "image_tokens", batch["image"], True)
    texts = self._text_states(apply, batch)
    out = dict(image_tokens=image)
    out.update({f"{n}_tokens": x for n, x in texts.items() if n != "masked"})
    if "masked" in texts:

      @jax.checkpoint  # the logits are the largest array: made again backwards
      def words(states, image_tokens):
        mask = bert.real_tokens(batch["text"])
        at, labels = mlm.chosen(batch["labels"], self.most_masked)
        logits = apply(_FUSED, "masked_words", states, mask, image_tokens, at, True)
        return mlm.cross_entropy(logits, labels)

      out["mlm"], out["mlm_count"] = words(texts["masked"], image)
    return out

  def _text_states(self, apply, batch: Batch) -> dict[str, jax.Array]:
    """View of the text -> states [B, L, D_t] of the layers that read texts alone.

    Views of one length are read together: one pass to compile, and larger products.
    """
    read = dict(
      text=self._on("itc", "itm"),
      eda=self._on("eda_itc", "eda_itm"),
      phrase=self._on("region_itc", "region_itm"),
      masked=self._on("mlm"),
    )
    found = {}
    for names in _alike({name: batch[name] for name, on in read.items() if on}):
      # A masked word may have become padding's id: what counts is the whole caption.
      whole = ["text" if name == "masked" else name for name in names]
      states = apply(
        1 + len(found),
        "text_tokens",
        _joined([batch[name] for name in names]),
        True,
        _joined([bert.real_tokens(batch[name]) for name in whole]),
      )
      found.update(zip(names, _parted(states, len(names)), strict=True))
    return found

  def reduce(
    self, params: Params, out: Outputs, batch: Batch
  ) -> tuple[jax.Array, Metrics]:
    """(scalar, {name of the loss: unweighted scalar}) of the GLOBAL batch.

    Beside the losses "temperature", and `RUNNING` where a projection has statistics.

    Args:
      out: what `encode` gave for all rows of `batch`.
    """
    temperature = self.model.apply({"params": params}, method="temp")
    pairs, prompts = self._pairs(out, batch), None
    prompt_key = jax.random.fold_in(batch["keys"][0], _ATTRIBUTES)
    if self._on("attr_itc", "attr_itm"):
      prompts = self.attributes.view(params, prompt_key)
    sides = {name: (pair.image, pair.text) for name, pair in pairs.items()}
    if self._on("attr_itc"):
      sides["attr_"] = View("image", out["image_tokens"]), prompts
    features, running = self._features(params, sides, batch["keys"][0])
    terms: Metrics = {}
    matched: dict[str, _Chosen] = {}
    for stream, (name, pair) in enumerate(pairs.items()):
      image, text = features[name]
      cosine = numerics.similarity(text, image)
      if self._on(f"{name}itc"):
        rows = itc.itc(
          cosine,
          self._positives(name, pair),
          temperature,
          smoothing=self.choices["label_smoothing"],
          feature_grad_scale=self.choices["itc_grad_scale"],
        )
        terms[f"{name}itc"] = rows.mean()
      if self._on(f"{name}itm"):
        key = jax.random.fold_in(batch["keys"][0], 1 + stream)
        matched[f"{name}itm"] = self._chosen(pair, cosine, temperature, key)
    if matched:
      key = jax.random.fold_in(batch["keys"][0], _MATCHING)
      terms |= self._itm(params, matched, key)
    if self._on("mlm"):
      terms["mlm"] = out["mlm"].sum() / jnp.maximum(out["mlm_count"].sum(), 1.0)
    if self.attributes is not None:
      terms |= self.attributes.terms(
        params,
        prompts,
        features.get("attr_"),
        out["image_tokens"],
        batch["attributes"],
        temperature,
        jax.random.fold_in(prompt_key, 1),
        lambda image, *rest: self._pair_logits(params, image, None, *rest),
      )
    total = sum(self.weights[name] * terms[name] for name in self.weights)
    terms["temperature"] = temperature
    return total, terms | ({RUNNING: running} if running else {})

  def _pairs(self, out: Outputs, batch: Batch) -> dict[str, "_Pair"]:
    """Prefix of the losses' names -> the two sides, in the order of the projections.

    That order, regions before images and phrases before captions, is the released
    code's; batch statistics are folded in by it.
    """
    image, found = out["image_tokens"], {}
    real, whole = bert.real_tokens, jnp.ones(image.shape[:2], bool)
    if "phrase_tokens" in out:
      sequence, mask = bins.region_sequence(
        image, batch["region"], show_mean=self.choices["region_mean"]
      )
      view = View("image", sequence, mask)
      if self.choices["region_feature"] == "image":
        # As released: bins of all patches, and token 0, the region's mean, for the
        # linear form of the projection, which reads nothing else.
        view = View("image", sequence)
      found["region_"] = _Pair(
        view,
        View("text", out["phrase_tokens"], real(batch["phrase"])),
        batch["phrase_id"],
        sequence,
        mask,
      )
    for name, text in (("", "text"), ("eda_", "eda")):
      if f"{text}_tokens" in out:
        found[name] = _Pair(
          View("image", image),
          View("text", out[f"{text}_tokens"], real(batch[text])),
          batch["ids"],
          image,
          whole,
        )
    return found

  def _positives(self, name: str, pair: "_Pair") -> jax.Array:
    """[B] equal where ITC takes two rows for a match."""
    if name == "region_" and self.choices["region_positives"] == "pair":
      return jnp.arange(len(pair.ids))
    return pair.ids

  def _features(
    self, params: Params, sides: Mapping[str, tuple[View, View]], key: jax.Array
  ) -> tuple[dict[str, tuple[jax.Array, jax.Array]], dict[str, jax.Array]]:
    """(prefix -> unit rows of both sides, running statistics of the projections)."""
    views, places, whole = [], {}, None
    for name, (image, text) in sides.items():
      at = whole  # an image's own feature serves beside edited captions and prompts too
      if name == "region_" or whole is None:
        at = len(views)
        views.append(image)
      whole = whole if name == "region_" else at
      places[name] = at, len(views)
      views.append(text)
    rows, sown = self.model.apply(
      {"params": params},
      views,
      True,
      method="project",
      rngs={"dropout": jax.random.fold_in(key, 0)},
      mutable=[batch_norm.COLLECTION],
    )
    rows = [numerics.unit(row) for row in rows]
    running = batch_norm.updated(params, sown.get(batch_norm.COLLECTION, {}))
    return {n: (rows[i], rows[j]) for n, (i, j) in places.items()}, running

  def _chosen(
    self, pair: "_Pair", cosine: jax.Array, temperature: jax.Array, key: jax.Array
  ) -> "_Chosen":
    """The true pairs and the sampled wrong ones, with the tokens of both sides."""
    group = self.choices["itm_group"] or None
    negatives = itm.sample_negatives(key, cosine, pair.ids, temperature, group=group)

    def sides(image, text):
      everywhere = sharding.gather(image), sharding.gather(text)
      return matching.sides(image, text, negatives, everywhere=everywhere)

    image, text = sides(pair.tokens, pair.text.tokens)
    image_mask, text_mask = sides(pair.tokens_mask, pair.text.mask)
    return _Chosen((image, image_mask, text, text_mask), matching.pairs(negatives))

  def _itm(
    self, params: Params, matched: Mapping[str, "_Chosen"], key: jax.Array
  ) -> Metrics:
    """Name of the loss -> mean cross entropy of its pairs; alike ones in one pass."""
    terms = {}
    for names in _alike({name: chosen.rows for name, chosen in matched.items()}):
      sides = zip(*(matched[name].rows for name in names), strict=True)
      logits = self._pair_logits(
        params, *map(_joined, sides), jax.random.fold_in(key, len(terms))
      )
      for name, found in zip(names, _parted(logits, len(names)), strict=True):
        pairs = matched[name].pairs
        smoothing = self.choices["itm_smoothing"]
        rows = itm.cross_entropy(found, pairs.label, smoothing=smoothing)
        terms[name] = masked_mean(rows, pairs.valid)
    return terms

  def _pair_logits(
    self,
    params: Params,
    image: jax.Array,
    image_mask: jax.Array | None,
    text: jax.Array,
    text_mask: jax.Array,
    key: jax.Array,
  ) -> jax.Array:
    """Tokens of P images and texts -> float32 [P, 2], in `itm_pieces` pieces."""

    def logits(rows):
      image, image_mask, text, text_mask, key = rows
      return self.model.apply(
        {"params": params},
        text,
        text_mask,
        image,
        image_mask,
        train=True,
        method="pair_logits",
        rngs={"dropout": key},
      )

    rows, count = (image, image_mask, text, text_mask), self.choices["itm_pieces"]
    if count == 1:
      return logits((*rows, key))
    parts = jax.tree.map(lambda x: pieces.split(x, count, "objective.itm_pieces"), rows)
    keys = jax.random.split(key, count)
    # A piece at a time, made again backwards.
    return pieces.join(jax.lax.map(jax.checkpoint(logits), (*parts, keys)))


@dataclasses.dataclass(frozen=True)
class _Pair:
  """Two sides that belong together row by row; `ids` [B]: equal where rows match."""

  image: View
  text: View
  ids: jax.Array
  tokens: jax.Array  # of the image, as cross-attention sees them
  tokens_mask: jax.Array


@dataclasses.dataclass(frozen=True)
class _Chosen:
  """Pairs for the matching head: `rows` are the arguments of `_pair_logits`, [3B]."""

  rows: tuple[jax.Array, jax.Array, jax.Array, jax.Array]
  pairs: matching.Pairs


def _alike(arrays: Mapping[str, Any]) -> list[list[str]]:
  """Names of arrays, or tuples of them, of the same shapes; the first ones first."""
  groups: dict[Any, list[str]] = {}
  for name, found in arrays.items():
    groups.setdefault(jax.tree.map(jnp.shape, found), []).append(name)
  return list(groups.values())


def _joined(arrays: Sequence[jax.Array]) -> jax.Array:
  """[B, ...] of V views -> [B V, ...], row by row: no row moves between devices."""
  return pieces.join(jnp.stack(arrays))


def _parted(rows: jax.Array, count: int) -> jax.Array:
  """The inverse of `_joined`: [V, B, ...]."""
  return pieces.split(rows, count, "views")
