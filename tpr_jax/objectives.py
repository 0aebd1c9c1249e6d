"""The training objective: towers -> losses -> one weighted scalar.

`config.losses` maps a name of `LOSSES` to its weight; a weight of 0 leaves out the
loss and the heads that only it needs, so each row of the CFAM ablation is a list of
overrides. Reduction, weights and masks are applied here, once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from tpr_jax.core.numerics import masked_mean, part_similarity, similarity
from tpr_jax.core.types import Batch, Outputs, Params
from tpr_jax.losses import contrastive, identity, matching, mlm, sdm

# apply(method, *args): the model's method on the parameters at hand
Apply = Callable[..., Any]

LOSSES = ("infonce", "sdm", "sdm_local", "matching", "identity")


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
  if "identity" in names:
    found.add(f"identity_{objective['identity']}")
  return frozenset(found)


def _check(names: Mapping[str, float], objective: Mapping[str, Any]) -> None:
  choices = {
    "negatives": ("local", "global"),
    "exclude": ("identity", "pair"),
    "identity": ("fused", "shared"),
  }
  for key, known in choices.items():
    if objective[key] not in known:
      raise ValueError(f"objective.{key}={objective[key]!r}: expected one of {known}")
  needs_negatives = "matching" in names or (
    "identity" in names and objective["identity"] == "fused"
  )
  has_parts = "sdm_local" in names or "matching" in names
  if needs_negatives and objective["negatives"] == "local" and not has_parts:
    raise ValueError(
      "objective.negatives='local' needs the granularity decoder, which only the losses"
      " sdm_local and matching train; set --config.objective.negatives=global"
    )


def _local_similarity(apply: Apply, out: Outputs) -> tuple[jax.Array, ...]:
  """(image parts, text parts, [B, B] mean cosine of parts; rows texts)."""
  image_parts = apply("parts", out["image_tokens"])
  text_parts = apply("parts", out["text_tokens"], out["text_mask"])
  return image_parts, text_parts, part_similarity(text_parts, image_parts)


def make_loss_fn(
  model: nn.Module,
  losses: Mapping[str, float],
  objective: Mapping[str, Any],
  *,
  masking: Mapping[str, Any],
) -> Callable[[Params, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
  """loss_fn(params, batch, key) -> (scalar, {name of the loss: unweighted scalar}).

  Args:
    model: a `DualEncoder` with the heads of `heads(losses, objective)`.
    objective: temperature, learn_temperature, soft_labels, negatives, exclude,
      identity (configs/cfam.py says what each does).
    masking: text augmentation: the keyword arguments of `losses/mlm.mask_tokens`;
      with share 0 the captions stay as they are.

  Raises:
    ValueError: an unknown loss or choice, or choices that exclude each other.
  """
  weights = active(losses)
  _check(weights, objective)
  fused = "identity" in weights and objective["identity"] == "fused"
  by_parts = "sdm_local" in weights or "matching" in weights

  def loss_fn(params, batch, key):
    mask_key, drop_key = jax.random.split(key)

    def apply(method, *args):
      rngs = {"dropout": drop_key}  # for drop_path, where the model has any
      return model.apply({"params": params}, *args, method=method, rngs=rngs)

    ids, text = batch["ids"], batch["text"]
    if masking["share"]:
      keys = jax.random.split(mask_key, text.shape[0])
      text, _ = mlm.mask_tokens(keys, text, **masking)
    out = {
      **apply("encode_image", batch["image"], True),
      **apply("encode_text", text, True),
    }
    labels = dict(image_ids=batch["image_id"] if objective["soft_labels"] else None)
    learnt = objective["learn_temperature"]
    scale = apply("scale") if learnt else 1.0 / objective["temperature"]
    cosine = similarity(out["text"], out["image"])
    terms = {}
    if "infonce" in weights:
      terms["infonce"] = contrastive.infonce(cosine, scale).mean()
    if "sdm" in weights:
      terms["sdm"] = sdm.sdm(cosine, ids, scale, **labels).mean()
    if by_parts:
      image_parts, text_parts, local = _local_similarity(apply, out)
    if "sdm_local" in weights:
      terms["sdm_local"] = sdm.sdm(local, ids, scale, **labels).mean()
    if "matching" in weights or fused:
      pairs = matching.pairs(
        matching.hard_negatives(
          local if objective["negatives"] == "local" else cosine,
          ids,
          exclude=objective["exclude"],
        )
      )
    if "matching" in weights:
      logits = apply("match", image_parts[pairs.image], text_parts[pairs.text])
      terms["matching"] = masked_mean(matching.bce(logits, pairs.label), pairs.valid)
    if fused:
      classes = apply(
        "classify_pairs",
        out["image_feature"][pairs.image],
        out["text_feature"][pairs.text],
      )
      each = identity.fused(classes, ids[pairs.image], ids[pairs.text])
      terms["identity"] = masked_mean(each, pairs.valid)
    elif "identity" in weights:
      image_classes = apply("classify", out["image_feature"])
      text_classes = apply("classify", out["text_feature"])
      terms["identity"] = identity.shared(image_classes, text_classes, ids).mean()
    metrics = {**terms, "scale": scale} if learnt else terms
    return sum(weights[name] * term for name, term in terms.items()), metrics

  return loss_fn
