"""Swin + BERT models from a config: a variant's numbers, overrides, and heads."""

from collections.abc import Iterable, Mapping
from typing import Any

from tpr_jax.models import adapters, swin
from tpr_jax.models import fields as field_checks
from tpr_jax.models.bert import BertTower
from tpr_jax.models.cross_encoder import CrossEncoder
from tpr_jax.models.cross_variants import VARIANTS
from tpr_jax.models.itm import Itm
from tpr_jax.models.projection import BinProjection, TokenProjection
from tpr_jax.models.swin import SwinTower
from tpr_jax.models.tied_words import TiedWords

HEADS = ("itm", "mlm")
_CHOICES = dict(projection=("bins", "token"), text_bins=("all", "text"))


def settings(model_config: Mapping[str, Any]) -> dict[str, Any]:
  """The variant's numbers with the overrides of `model_config` in their place.

  Args:
    model_config: `variant` and any field of `cross_variants.VARIANTS`.

  Returns:
    All fields, "windows" of every stage, and "variant".

  Raises:
    ValueError: an unknown field, choice or dtype (names the nearest), or an image size
      that the stages and windows do not fill.
  """
  overrides = dict(model_config)
  overrides.pop("windows", None)  # made here
  variant = overrides.pop("variant")
  fields = dict(VARIANTS[variant])
  for name, value in overrides.items():
    if name not in fields:
      raise ValueError(field_checks.nearest("field", name, [*fields, "variant"]))
    fields[name] = value
  for name, known in _CHOICES.items():
    if fields[name] not in known:
      raise ValueError(field_checks.nearest(name, fields[name], known))
  field_checks.check_dtypes(fields)
  fields["adapters"] = adapters.rules(fields["adapters"])
  fields["image_size"] = field_checks.pair("image_size", fields["image_size"])
  for name in ("pixel_mean", "pixel_std"):
    fields[name] = field_checks.pixels(name, fields[name])
  for name in ("vision_depths", "vision_heads"):
    fields[name] = tuple(int(value) for value in fields[name])
  fields["windows"] = swin.windows(
    fields["image_size"],
    fields["window"],
    fields["window_last"],
    patch=fields["patch"],
    stages=len(fields["vision_depths"]),
  )
  if fields["text_length"] > fields["text_positions"]:
    raise ValueError(
      f"model: text_positions={fields['text_positions']} are fewer than the text length"
      f" {fields['text_length']}"
    )
  return dict(fields, variant=variant)


def build(
  model_config: Mapping[str, Any], *, vocab_size: int, heads: Iterable[str] = ()
) -> CrossEncoder:
  """The model that a config describes; parameters come from its `init`.

  Args:
    model_config: see `settings`.
    heads: names out of `HEADS`; without any the layers behind the text tower, which
      nothing would use, are left out.

  Raises:
    ValueError: an unknown name (names the nearest), or what `settings` refuses.
  """
  heads = set(heads)
  for name in sorted(heads - set(HEADS)):
    raise ValueError(field_checks.nearest("head", name, HEADS))
  f = settings(model_config)
  common = dict(remat=f["remat"], dtype=f["dtype"], stream=field_checks.stream(f))
  image_width = f["vision_width"] * 2 ** (len(f["vision_depths"]) - 1)
  layers = f["text_layers"] if heads else f["fusion_layer"]
  return CrossEncoder(
    visual=SwinTower(
      **{k: f[k] for k in ("image_size", "windows", "pixel_mean", "pixel_std")},
      **{k: f[k] for k in ("patch", "epsilon", "drop_path")},
      **{k: f[f"vision_{k}"] for k in ("width", "depths", "heads", "dropout")},
      **common,
    ),
    text=BertTower(
      vocab_size=vocab_size,
      length=f["text_positions"],
      layers=layers,
      fusion_layer=f["fusion_layer"],
      image_width=image_width,
      **{k: f[f"text_{k}"] for k in ("width", "heads", "hidden", "dropout", "epsilon")},
      **common,
    ),
    image_projection=_projection(f, first=False),
    text_projection=_projection(f, first=True),
    itm=Itm(f["dtype"]) if "itm" in heads else None,
    words=TiedWords(f["text_epsilon"], f["dtype"]) if "mlm" in heads else None,
    initial_temperature=float(f["initial_temperature"]),
    text_bins=f["text_bins"],
    adapters=f["adapters"],
  )


def _projection(f: Mapping[str, Any], *, first: bool) -> Any:
  if f["projection"] == "token":
    return TokenProjection(f["joint_dim"], f["dtype"])
  return BinProjection(
    f["joint_dim"], first=first, dropout=f["projection_dropout"], dtype=f["dtype"]
  )
