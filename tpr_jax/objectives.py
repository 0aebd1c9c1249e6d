"""The training objective: towers -> losses -> one weighted scalar.

`config.losses` maps a name of `LOSSES` to its weight; a weight of 0 leaves out the
loss and the heads that only it needs, so each row of the CFAM ablation is a list of
overrides. Reduction, weights and masks are applied here, once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tpr_jax.core.numerics import masked_mean
from tpr_jax.core.types import Batch, Params
from tpr_jax.losses import contrastive, identity, matching, mlm, sdm

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
  """Names of the model's heads that the active losses need (models/cfam.py)."""
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


def make_loss_fn(
  model: nn.Module,
  losses: Mapping[str, float],
  objective: Mapping[str, Any],
  *,
  mask_rate: float,
  mask_split: tuple[float, float, float],
  special: Mapping[str, int],
) -> Callable[[Params, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
  """loss_fn(params, batch, key) -> (scalar, {name of the loss: unweighted scalar}).

  Args:
    model: a `models/cfam.py` module with the heads of `heads(losses, objective)`.
    objective: temperature, learn_temperature, soft_labels, negatives, exclude,
      identity (configs/cfam.py says what each does).
    mask_rate, mask_split: text augmentation: share of the words touched, and how
      that share splits into mask token, random token, unchanged.
    special: ids `start`, `end`, `mask`, `pad` and `vocab_size` of the tokenizer.

  Raises:
    ValueError: an unknown loss or choice, or choices that exclude each other.
  """
  weights = active(losses)
  _check(weights, objective)

  def loss_fn(params, batch, key):
    def apply(method, *args):
      return model.apply({"params": params}, *args, method=method)

    text = batch["text"]
    if mask_rate:
      keys = jax.random.split(key, text.shape[0])
      text = mlm.mask_tokens(
        keys, text, rate=mask_rate, split=tuple(mask_split), **special
      ).ids
    out = {
      **apply("encode_image", batch["image"], True),
      **apply("encode_text", text, True),
    }
    ids = batch["ids"]
    image_ids = batch["image_id"] if objective["soft_labels"] else None
    scale = 1.0 / objective["temperature"]
    if objective["learn_temperature"]:
      scale = apply("scale")
    terms = {}
    if "infonce" in weights:
      terms["infonce"] = contrastive.infonce(out["image"], out["text"], scale).mean()
    if "sdm" in weights:
      terms["sdm"] = sdm.sdm(
        contrastive.similarity(out["text"], out["image"]), ids, scale, image_ids
      ).mean()
    local = None
    if "sdm_local" in weights or "matching" in weights:
      image_parts = apply("parts", out["image_tokens"], None)
      text_parts = apply("parts", out["text_tokens"], out["text_mask"])
      local = contrastive.part_similarity(text_parts, image_parts)
    if "sdm_local" in weights:
      terms["sdm_local"] = sdm.sdm(local, ids, scale, image_ids).mean()
    if "identity" in weights and objective["identity"] == "shared":
      terms["identity"] = identity.shared(
        apply("classify", out["image"]), apply("classify", out["text"]), ids
      ).mean()
    fused = "identity" in weights and objective["identity"] == "fused"
    if fused or "matching" in weights:
      chosen = local
      if objective["negatives"] == "global":
        chosen = contrastive.similarity(out["text"], out["image"])
      pairs = matching.make_pairs(
        jax.lax.stop_gradient(chosen), ids, exclude=objective["exclude"]
      )
    if "matching" in weights:
      logits = apply("match", image_parts[pairs.image], text_parts[pairs.text])
      terms["matching"] = masked_mean(
        matching.binary_cross_entropy(logits, pairs.positive), pairs.valid
      )
    if fused:
      logits = apply(
        "classify_pairs", out["image"][pairs.image], out["text"][pairs.text]
      )
      labels = jnp.where(pairs.positive, ids[pairs.image], logits.shape[-1] - 1)
      terms["identity"] = masked_mean(
        identity.cross_entropy(logits, labels), pairs.valid
      )
    total = sum(weights[name] * term for name, term in terms.items())
    return total, terms

  return loss_fn
