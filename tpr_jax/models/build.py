"""Models from a config: a variant's numbers, overrides of them, and the heads asked.

CLIP's towers (DualEncoder) are made here; a variant of Swin + BERT is handed on to
build_cross.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tpr_jax.models import adapters, build_cross, cross_variants
from tpr_jax.models.clip_text import TextTower
from tpr_jax.models.clip_vision import VisionTower
from tpr_jax.models.cross_encoder import CrossEncoder
from tpr_jax.models.dual_encoder import DualEncoder
from tpr_jax.models.fields import check_dtypes, nearest, pair, pixels, stream
from tpr_jax.models.granularity import GranularityDecoder
from tpr_jax.models.identity import FusedIdentity, SharedIdentity
from tpr_jax.models.layers.mlp import ACTIVATIONS
from tpr_jax.models.matcher import Matcher
from tpr_jax.models.mlm import MaskedLanguage
from tpr_jax.models.variants import OF_WEIGHTS, VARIANTS

HEADS = ("parts", "matcher", "identity_fused", "identity_shared", "mlm")


def is_cross(model_config: Mapping[str, Any]) -> bool:
  """Whether the variant is one of Swin + BERT (`CrossEncoder`)."""
  return model_config.get("variant") in cross_variants.VARIANTS


def all_heads(model_config: Mapping[str, Any]) -> tuple[str, ...]:
  """Names of every head that a model of this variant's family can have."""
  return build_cross.HEADS if is_cross(model_config) else HEADS


def settings(model_config: Mapping[str, Any]) -> dict[str, Any]:
  """The variant's numbers with the overrides of `model_config` in their place.

  Args:
    model_config: `variant` (default "B/16") and any field of `VARIANTS`; None for a
      field of `OF_WEIGHTS` leaves the variant's value.

  Returns:
    All fields; sizes as (height, width) tuples, `stride` filled in.

  Raises:
    ValueError: an unknown variant, field, activation or dtype (names the nearest).
  """
  overrides = dict(model_config)
  if is_cross(overrides):
    return build_cross.settings(overrides)
  variant = overrides.pop("variant", "B/16")
  if variant not in VARIANTS:
    known = [*VARIANTS, *cross_variants.VARIANTS]
    raise ValueError(nearest("variant", variant, known))
  fields = dict(VARIANTS[variant])
  for name, value in overrides.items():
    if name not in fields:
      raise ValueError(nearest("field", name, [*fields, "variant"]))
    if value is not None or name not in OF_WEIGHTS:
      fields[name] = value
  if fields["stride"] is None:
    fields["stride"] = fields["patch"]
  for name in ("image_size", "patch", "stride"):
    fields[name] = pair(name, fields[name])
  for name in ("pixel_mean", "pixel_std"):
    fields[name] = pixels(name, fields[name])
  if fields["activation"] not in ACTIVATIONS:
    raise ValueError(nearest("activation", fields["activation"], ACTIVATIONS))
  check_dtypes(fields)
  fields["adapters"] = adapters.rules(fields["adapters"])
  return fields


def build(
  model_config: Mapping[str, Any],
  *,
  vocab_size: int,
  num_classes: int | None = None,
  heads: Iterable[str] = (),
) -> DualEncoder | CrossEncoder:
  """The model that a config describes; parameters come from its `init`.

  Args:
    model_config: see `settings`.
    vocab_size: rows of the token table; the end token has the highest id.
    num_classes: training identities N, needed by the identity heads.
    heads: names out of `all_heads`; the towers alone when empty.

  Raises:
    ValueError: an unknown name (names the nearest), or a head that lacks what it needs.
  """
  heads = set(heads)
  if is_cross(model_config):
    return build_cross.build(model_config, vocab_size=vocab_size, heads=heads)
  for name in sorted(heads - set(HEADS)):
    raise ValueError(nearest("head", name, HEADS))
  if "matcher" in heads and "parts" not in heads:
    raise ValueError("model: the head 'matcher' compares parts: add 'parts' to heads")
  if heads & {"identity_fused", "identity_shared"} and not num_classes:
    raise ValueError(
      f"model: identity heads need the number of identities, found {num_classes}"
    )
  f = settings(model_config)
  shared = {
    name: f[name]
    for name in ("joint_dim", "activation", "epsilon", "drop_path", "remat")
  }
  dtypes = dict(dtype=f["dtype"], stream=stream(f))
  shared |= dtypes
  return DualEncoder(
    visual=VisionTower(
      **{k: f[k] for k in ("image_size", "patch", "stride", "pixel_mean", "pixel_std")},
      **{k: f[f"vision_{k}"] for k in ("width", "layers", "heads")},
      **shared,
    ),
    text=TextTower(
      vocab_size=vocab_size,
      **{k: f[f"text_{k}"] for k in ("length", "width", "layers", "heads")},
      **shared,
    ),
    granularity=GranularityDecoder(
      **{k: f[f"part_{k}"] for k in ("queries", "width", "heads", "layers")},
      **dtypes,
    )
    if "parts" in heads
    else None,
    matcher=Matcher(f["matcher_layers"], f["matcher_heads"], **dtypes)
    if "matcher" in heads
    else None,
    identity_fused=FusedIdentity(num_classes) if "identity_fused" in heads else None,
    identity_shared=SharedIdentity(num_classes) if "identity_shared" in heads else None,
    mlm=MaskedLanguage(vocab_size, f["mlm_layers"], f["mlm_heads"], **dtypes)
    if "mlm" in heads
    else None,
    initial_scale=float(f["initial_scale"]) if f["learn_scale"] else None,
    adapters=f["adapters"],
  )
