"""Models by name: the numbers of the published variants, and overrides of them.

Sizes are (height, width). "B/16", "B/32" and "L/14" are CLIP's towers (Radford et al.,
arXiv:2103.00020, Table 20) at the resolution and text length of person retrieval;
"tiny" is ours, small enough to train from scratch on two CPU cores.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from tpr_jax.models.cfam import CFAM
from tpr_jax.models.clip_text import TextTower
from tpr_jax.models.clip_vision import VisionTower
from tpr_jax.models.granularity import GranularityDecoder
from tpr_jax.models.identity import FusedIdentity, SharedIdentity
from tpr_jax.models.layers.mlp import ACTIVATIONS
from tpr_jax.models.matcher import Matcher

HEADS = ("parts", "matcher", "identity_fused", "identity_shared")
DTYPES = ("float32", "bfloat16")

_COMMON = dict(
  image_size=(384, 128),
  stride=None,  # None: the patch size, so that patches do not overlap
  text_length=168,
  activation="quick_gelu",
  epsilon=1e-5,
  pixel_mean=(0.48145466, 0.4578275, 0.40821073),
  pixel_std=(0.26862954, 0.26130258, 0.27577711),
  part_queries=16,
  part_width=512,
  part_heads=8,
  part_layers=2,
  matcher_heads=8,
  matcher_layers=2,
  learn_scale=False,
  initial_scale=50.0,
  drop_path=0.0,
  remat=False,
  dtype="float32",
)
_BASE_TEXT = dict(text_width=512, text_layers=12, text_heads=8, joint_dim=512)
_BASE = dict(vision_width=768, vision_layers=12, vision_heads=12, **_BASE_TEXT)
_LARGE = dict(
  vision_width=1024,
  vision_layers=24,
  vision_heads=16,
  text_width=768,
  text_layers=12,
  text_heads=12,
  joint_dim=768,
)
_TINY = dict(
  image_size=(96, 40),
  patch=(8, 8),
  vision_width=128,
  vision_layers=3,
  vision_heads=4,
  text_length=128,
  text_width=128,
  text_layers=3,
  text_heads=4,
  joint_dim=128,
  part_width=128,
  part_heads=4,
  matcher_heads=4,
)

# Every variant has the same keys: the fields that a config may override.
VARIANTS: dict[str, dict[str, Any]] = {
  "B/16": {**_COMMON, **_BASE, "patch": (16, 16)},
  "B/32": {**_COMMON, **_BASE, "patch": (32, 32)},
  "L/14": {**_COMMON, **_LARGE, "patch": (14, 14)},
  "tiny": {**_COMMON, **_TINY},
}


def _nearest(kind: str, name: str, known: Iterable[str]) -> str:
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  return f"model: unknown {kind} {name!r}{hint} Known: {', '.join(known)}"


def _pair(field: str, value: Any) -> tuple[int, int]:
  """An int or two ints -> (height, width)."""
  pair = (value, value) if isinstance(value, int) else tuple(value)
  if len(pair) != 2 or not all(isinstance(v, int) and v > 0 for v in pair):
    raise ValueError(
      f"model: {field}={value!r}; expected a positive int or (height, width)"
    )
  return pair


def settings(model_config: Mapping[str, Any]) -> dict[str, Any]:
  """The variant's numbers with the overrides of `model_config` in their place.

  Args:
    model_config: `variant` (default "B/16") and any field of `VARIANTS`.

  Returns:
    All fields; sizes as (height, width) tuples, `stride` filled in.

  Raises:
    ValueError: an unknown variant, field, activation or dtype (names the nearest).
  """
  overrides = dict(model_config)
  variant = overrides.pop("variant", "B/16")
  if variant not in VARIANTS:
    raise ValueError(_nearest("variant", variant, VARIANTS))
  fields = dict(VARIANTS[variant])
  for name, value in overrides.items():
    if name not in fields:
      raise ValueError(_nearest("field", name, [*fields, "variant"]))
    fields[name] = value
  if fields["stride"] is None:
    fields["stride"] = fields["patch"]
  for name in ("image_size", "patch", "stride"):
    fields[name] = _pair(name, fields[name])
  for name in ("pixel_mean", "pixel_std"):
    fields[name] = tuple(float(value) for value in fields[name])
    if len(fields[name]) != 3:
      raise ValueError(
        f"model: {name}={fields[name]}; expected three numbers (R, G, B)"
      )
  if fields["activation"] not in ACTIVATIONS:
    raise ValueError(_nearest("activation", fields["activation"], ACTIVATIONS))
  if fields["dtype"] not in DTYPES:
    raise ValueError(_nearest("dtype", fields["dtype"], DTYPES))
  return fields


def build(
  model_config: Mapping[str, Any],
  *,
  vocab_size: int,
  num_classes: int | None = None,
  heads: Iterable[str] = (),
) -> CFAM:
  """The model that a config describes; parameters come from its `init`.

  Args:
    model_config: see `settings`.
    vocab_size: rows of the token table; the end token has the highest id.
    num_classes: training identities N, needed by the identity heads.
    heads: names out of `HEADS`; the towers alone when empty.

  Raises:
    ValueError: an unknown name (names the nearest), or a head that lacks what it needs.
  """
  heads = set(heads)
  for name in sorted(heads - set(HEADS)):
    raise ValueError(_nearest("head", name, HEADS))
  if "matcher" in heads and "parts" not in heads:
    raise ValueError("model: the head 'matcher' compares parts: add 'parts' to heads")
  if heads & {"identity_fused", "identity_shared"} and not num_classes:
    raise ValueError(
      f"model: identity heads need the number of identities, found {num_classes}"
    )
  f = settings(model_config)
  shared = {
    name: f[name]
    for name in ("joint_dim", "activation", "epsilon", "drop_path", "remat", "dtype")
  }
  dtype = f["dtype"]
  return CFAM(
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
      dtype=dtype,
    )
    if "parts" in heads
    else None,
    matcher=Matcher(f["matcher_layers"], f["matcher_heads"], dtype)
    if "matcher" in heads
    else None,
    identity_fused=FusedIdentity(num_classes) if "identity_fused" in heads else None,
    identity_shared=SharedIdentity(num_classes) if "identity_shared" in heads else None,
    initial_scale=float(f["initial_scale"]) if f["learn_scale"] else None,
  )
