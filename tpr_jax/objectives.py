"""The training objective: towers -> losses -> one weighted scalar.

That of CLIP's family is here, that of Swin + BERT in cross_objective.py.
`config.losses` maps a name of `LOSSES` to its weight; a weight of 0 leaves out the
loss and the heads that only it needs, so each row of the CFAM ablation is a list of
overrides. Reduction, weights and masks are applied here, once.

An objective has two halves: what each example gives by itself (`encode`: towers, parts,
words), and what needs the whole batch (`reduce`: similarities, negatives, pairs).
`gradients.py` puts them together, for whole batches or in small pieces of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from tpr_jax import attribute_stream, cross_objective, dual_masking
from tpr_jax.core import sharding
from tpr_jax.core.numerics import masked_mean, part_similarity, similarity
from tpr_jax.core.types import Batch, Metrics, Outputs, Params
from tpr_jax.cross_objective import CrossObjective
from tpr_jax.data.prompts import Encoded
from tpr_jax.losses import contrastive, identity, matching, mlm, sdm
from tpr_jax.models.cross_encoder import CrossEncoder

CLIP_LOSSES = ("infonce", "sdm", "sdm_local", "matching", "identity", "mlm")
LOSSES = tuple(dict.fromkeys([*CLIP_LOSSES, *cross_objective.LOSSES]))


def active(losses: Mapping[str, float]) -> dict[str, float]:
  """The losses with a positive weight.

  Raises:
    ValueError: unknown loss, negative weight, or none active.
  """
  unknown = sorted(set(losses) - set(LOSSES))
  if unknown:
    raise ValueError(f"losses.{unknown[0]}: unknown; known are {', '.join(LOSSES)}")
  if any(weight < 0 for weight in losses.values()):
    raise ValueError(f"losses: weights must not be negative: {dict(losses)}")
  found = {name: float(weight) for name, weight in losses.items() if weight > 0}
  if not found:
    raise ValueError("losses: every weight is 0; give at least one a positive weight")
  return found


def heads(losses: Mapping[str, float], objective: Mapping[str, Any]) -> frozenset[str]:
  """Names of the model's heads that the active losses need (models/dual_encoder.py)."""
  names = active(losses)
  found = set()
  if "sdm_local" in names or "matching" in names:
    found.add("parts")
  if "matching" in names:
    found.add("matcher")
  if set(names) & {"itm", "eda_itm", "region_itm", "attr_itm"}:
    found.add("itm")
  if "identity" in names:
    found.add(f"identity_{objective['identity']}")
  if "mlm" in names or "attr_mlm" in names:
    found.add("mlm")
  return frozenset(found)


def dual_fields(objective: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """The config's `objective.dual` where captions are masked by their words' scores.

  None where they are not, and for the objective of a run from before there was any.
  """
  dual = objective.get("dual")
  return dual if dual and dual["score"] != "none" else None


def _check(names: Mapping[str, float], objective: Mapping[str, Any]) -> None:
  choices = {
    "negatives": ("local", "global"),
    "exclude": ("identity", "pair"),
    "identity": ("fused", "shared"),
  }
  for key, known in choices.items():
    if objective[key] not in known:
      raise ValueError(f"objective.{key}={objective[key]!r}: expected one of {known}")
  if "mlm" in names and not 0 < objective["mlm_share"] <= 1:
    raise ValueError(
      f"objective.mlm_share={objective['mlm_share']}: the loss mlm masks this share of"
      " the words; expected more than 0 and at most 1"
    )
  if (dual := dual_fields(objective)) is not None:
    dual_masking.check(dual)
    if objective["mlm_in_place"]:
      raise ValueError(
        "objective.mlm_in_place=True: with objective.dual.score each loss has captions"
        " of its own; set --config.objective.mlm_in_place=False"
      )
  needs_negatives = "matching" in names or (
    "identity" in names and objective["identity"] == "fused"
  )
  has_parts = "sdm_local" in names or "matching" in names
  if needs_negatives and objective["negatives"] == "local" and not has_parts:
    raise ValueError(
      "objective.negatives='local' needs the granularity decoder, which only the losses"
      " sdm_local and matching train; set --config.objective.negatives=global"
    )


@dataclasses.dataclass(frozen=True)
class Objective:
  """loss(params, batch, key) in its two halves. Everything is pure.

  Attributes:
    model: a `DualEncoder` with the heads of `heads(losses, objective)`.
    weights: name of the loss -> weight, the active ones.
    choices: the config's `objective` (configs/cfam.py says what each field does).
    masking: the keyword arguments of `losses/mlm.mask_tokens`: its `share` is that of
      the text augmentation; with 0 the captions stay as they are.
    dual: masks by the scores of words; None: mlm masks any, the other losses none.
  """

  model: nn.Module
  weights: Mapping[str, float]
  choices: Mapping[str, Any]
  masking: Mapping[str, Any]
  dual: dual_masking.DualMasking | None = None

  def prepare(self, batch: Batch, key: jax.Array) -> Batch:
    """The batch with its captions masked; `labels` [B, L] for mlm, and `masked`, the
    captions that it reads, unless all losses read them (`mlm_in_place`). With `dual`
    only its keys, [B]: its masks depend on the image, so `encode` draws them."""
    batch, rows = dict(batch), batch["text"].shape[0]
    if self.dual is not None:
      batch["keys"] = jax.random.split(key, rows)
      return batch
    if self.masking["share"]:
      keys = jax.random.split(key, rows)
      batch["text"], _ = mlm.mask_tokens(keys, batch["text"], **self.masking)
    if "mlm" in self.weights:
      keys = jax.random.split(jax.random.fold_in(key, 1), rows)
      masking = dict(self.masking, share=self.choices["mlm_share"], at_least_one=True)
      masked, batch["labels"] = mlm.mask_tokens(keys, batch["text"], **masking)
      batch["text" if self.choices["mlm_in_place"] else "masked"] = masked
    return batch

  def encode(self, params: Params, batch: Batch, key: jax.Array) -> Outputs:
    """What each example gives by itself: float32 arrays whose first axis is B.

    Args:
      batch: as `prepare` returns it, or some rows of that.
      key: for drop_path, where the model has any.
    """

    def apply(method, *args):
      variables, rngs = {"params": params}, {"dropout": key}
      return self.model.apply(variables, *args, method=method, rngs=rngs)

    image = apply("encode_image", batch["image"], True)
    out = {}
    if self.dual is not None:
      out, batch = self.dual.mask(params, image, batch)
    text = apply("encode_text", batch["text"], True)
    out |= {name: image[name] for name in ("image", "image_feature")}
    out |= {name: text[name] for name in ("text", "text_feature")}
    if "sdm_local" in self.weights or "matching" in self.weights:
      out["image_parts"] = apply("parts", image["image_tokens"])
      out["text_parts"] = apply("parts", text["text_tokens"], text["text_mask"])
    if "mlm" in self.weights:

      @jax.checkpoint  # the logits are the largest array by far: made again backwards
      def words(text_tokens, image_tokens):
        logits = apply("words", text_tokens, image_tokens)
        return mlm.cross_entropy(logits, batch["labels"])

      if not self.choices["mlm_in_place"]:
        text = apply("encode_text", batch["masked"], True)
      out["mlm"], out["mlm_count"] = words(text["text_tokens"], image["image_tokens"])
    return out

  def reduce(
    self, params: Params, out: Outputs, batch: Batch
  ) -> tuple[jax.Array, Metrics]:
    """(scalar, {name of the loss: unweighted scalar}) of the GLOBAL batch.

    With `dual` also what `DualMasking.metrics` says.

    Args:
      out: what `encode` gave for all rows of `batch`.
    """

    def apply(method, *args):
      return self.model.apply({"params": params}, *args, method=method)

    ids, choices, terms = batch["ids"], self.choices, {}
    learnt = choices["learn_temperature"]
    scale = apply("scale") if learnt else 1.0 / choices["temperature"]
    labels = dict(image_ids=batch["image_id"] if choices["soft_labels"] else None)
    cosine = similarity(out["text"], out["image"])
    if "infonce" in self.weights:
      terms["infonce"] = contrastive.infonce(cosine, scale).mean()
    if "sdm" in self.weights:
      terms["sdm"] = sdm.sdm(cosine, ids, scale, **labels).mean()
      if self.dual is not None:
        share = self.dual.dual["sdm_grad_scale"]
        terms["sdm"] = dual_masking.with_gradient_share(terms["sdm"], share)
    local, all_parts = None, ()
    if "image_parts" in out:
      # The largest arrays that devices exchange: each once, for all that reads it.
      all_parts = [sharding.gather(out[side]) for side in ("image_parts", "text_parts")]
      local = part_similarity(out["text_parts"], all_parts[0])
    if "sdm_local" in self.weights:
      terms["sdm_local"] = sdm.sdm(local, ids, scale, **labels).mean()
    terms |= self._pair_terms(apply, out, ids, cosine, local, all_parts)
    if "identity" in self.weights and choices["identity"] == "shared":
      classes = (
        apply("classify", out[f"{side}_feature"]) for side in ("image", "text")
      )
      terms["identity"] = identity.shared(*classes, ids).mean()
    if "mlm" in self.weights:
      terms["mlm"] = out["mlm"].sum() / out["mlm_count"].sum()
    total = sum(self.weights[name] * term for name, term in terms.items())
    terms |= {"scale": scale} if learnt else {}
    return total, terms | ({} if self.dual is None else self.dual.metrics(out))

  def _pair_terms(self, apply, out, ids, cosine, local, all_parts) -> Metrics:
    """The losses over true pairs and hard negatives."""
    fused = "identity" in self.weights and self.choices["identity"] == "fused"
    if "matching" not in self.weights and not fused:
      return {}
    terms = {}
    negatives = matching.hard_negatives(
      local if self.choices["negatives"] == "local" else cosine,
      ids,
      exclude=self.choices["exclude"],
    )
    pairs = matching.pairs(negatives)
    if "matching" in self.weights:
      own = out["image_parts"], out["text_parts"]
      parts = matching.sides(*own, negatives, everywhere=all_parts)
      each = matching.bce(apply("match", *parts), pairs.label)
      terms["matching"] = masked_mean(each, pairs.valid)
    if fused:
      own = out["image_feature"], out["text_feature"]
      features = matching.sides(*own, negatives, everywhere=map(sharding.gather, own))
      classes = apply("classify_pairs", *features)
      each = identity.fused(classes, ids[pairs.image], ids[pairs.text])
      terms["identity"] = masked_mean(each, pairs.valid)
    return terms


def make_objective(
  model: nn.Module,
  losses: Mapping[str, float],
  choices: Mapping[str, Any],
  *,
  masking: Mapping[str, Any],
  most_masked: int = 1,
  prompts: Encoded | None = None,
) -> Objective | CrossObjective:
  """The objective that `config.losses` and `config.objective` describe.

  Args:
    masking: of tokens on the device, for CLIP's family; Swin + BERT read captions that
      the input has masked, `most_masked` words of each at most (data.views.mask.most).
    prompts: of attributes (data/prompts.py), for the losses that read them.

  Raises:
    ValueError: an unknown loss or choice, a loss of the other family of models, or
      choices that exclude each other.
  """
  weights = active(losses)
  cross = isinstance(model, CrossEncoder)
  known = cross_objective.LOSSES if cross else CLIP_LOSSES
  for name in weights:
    if name not in known:
      raise ValueError(
        f"losses.{name}: not a loss of {'Swin + BERT' if cross else 'CLIP towers'}"
        f" (model.variant); known are {', '.join(known)}"
      )
  if cross:
    cross_objective.check(choices)
    stream = _attribute_stream(model, weights, choices, prompts)
    return CrossObjective(model, weights, choices, most_masked, stream)
  _check(weights, choices)
  fields, dual = dual_fields(choices), None
  if fields is not None:
    if masking["share"]:
      raise ValueError(
        f"text.mask_share={masking['share']}: with objective.dual.score the scores"
        " choose the words that are hidden; set --config.text.mask_share=0"
      )
    dual = dual_masking.DualMasking(model, fields, masking)
  return Objective(model, weights, choices, masking, dual)


def _attribute_stream(
  model: nn.Module,
  weights: Mapping[str, float],
  choices: Mapping[str, Any],
  prompts: Encoded | None,
) -> attribute_stream.AttributeStream | None:
  """None where no loss reads attribute prompts."""
  names = frozenset(weights) & frozenset(attribute_stream.LOSSES)
  if not names:
    return None
  if prompts is None or ("attr_mlm" in names and prompts.masked is None):
    lacking = "prompts" if prompts is None else "prompts with masked words"
    raise ValueError(
      f"losses.{min(names)} needs {lacking}: set data.views.attributes (and"
      " data.views.mask.rule)"
    )
  smoothing, drawn = choices["attr_smoothing"], choices["attr_prompts"]
  return attribute_stream.AttributeStream(model, names, smoothing, drawn, prompts)
