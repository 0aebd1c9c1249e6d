"""What config files say about a published CLIP: the settings that travel with weights.

Absent keys have the meaning that their libraries give them: `transformers.CLIPConfig`
writes only what differs from its defaults, and so does OpenCLIP by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tpr_jax.convert.source import ConvertError
from tpr_jax.models.layers.mlp import ACTIVATIONS


def _agreed(place: str, what: str, vision: Any, text: Any) -> Any:
  if vision != text:
    raise ConvertError(
      f"{place}: the image tower has {what} {vision!r} and the text tower {text!r};"
      " here both towers share one"
    )
  return vision


def _pixels(found: Mapping[str, Any], mean: str, std: str) -> dict[str, Any]:
  named = dict(pixel_mean=found.get(mean), pixel_std=found.get(std))
  return {k: tuple(map(float, v)) for k, v in named.items() if v is not None}


# Pillow's numbers of the filters, which preprocessor_config.json has.
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


def _preprocessing(found: Mapping[str, Any]) -> dict[str, Any]:
  """`filter`, and `image_size` where pictures are squashed to one (CLIP crops)."""
  made: dict[str, Any] = {}
  size, resample = found.get("size"), found.get("resample")
  squashed = found.get("do_resize", True) and not found.get("do_center_crop", True)
  if squashed and isinstance(size, Mapping) and {"height", "width"} <= set(size):
    made["image_size"] = (int(size["height"]), int(size["width"]))
  if isinstance(resample, int) and 0 <= resample < len(FILTERS):
    made["filter"] = FILTERS[resample]
  return made


def from_hugging_face(
  place: str, config: Mapping[str, Any], preprocessor: Mapping[str, Any]
) -> dict[str, Any]:
  """`Source.settings` out of config.json and preprocessor_config.json ({} if absent).

  Raises:
    ConvertError: of another model, or of an activation that is not ours.
  """
  kind = config.get("model_type", "clip")
  if kind != "clip":
    raise ConvertError(
      f"{place}: config.json is of model_type {kind!r}; expected 'clip' (two towers)"
    )
  # Files of 2021 have both; `transformers` lets the one with "_dict" win.
  vision, text = (
    {**(config.get(f"{t}_config") or {}), **(config.get(f"{t}_config_dict") or {})}
    for t in ("vision", "text")
  )
  activation = _agreed(
    place,
    "hidden_act",
    *(tower.get("hidden_act", "quick_gelu") for tower in (vision, text)),
  )
  if activation not in ACTIVATIONS:
    raise ConvertError(
      f"{place}: hidden_act is {activation!r}; expected one of {', '.join(ACTIVATIONS)}"
    )
  epsilon = [float(tower.get("layer_norm_eps", 1e-5)) for tower in (vision, text)]
  return dict(
    activation=activation,
    epsilon=_agreed(place, "layer_norm_eps", *epsilon),
    vision_heads=vision.get("num_attention_heads", 12),
    text_heads=text.get("num_attention_heads", 8),
    **_pixels(preprocessor, "image_mean", "image_std"),
    **_preprocessing(preprocessor),
  )


def from_open_clip(place: str, config: Mapping[str, Any]) -> dict[str, Any]:
  """`Source.settings` out of open_clip_config.json.

  Raises:
    ConvertError: it asks for what our towers do not do.
  """
  model = config.get("model_cfg") or {}
  vision, text = (model.get(f"{tower}_cfg") or {} for tower in ("vision", "text"))
  foreign = {
    "text_cfg.no_causal_mask": text.get("no_causal_mask", False),
    "text_cfg.act_kwargs": text.get("act_kwargs"),
    "vision_cfg.act_kwargs": vision.get("act_kwargs"),
    "vision_cfg.attentional_pool": vision.get("attentional_pool", False),
  }
  asked = [f"{name}={value!r}" for name, value in foreign.items() if value]
  if asked:
    raise ConvertError(
      f"{place}: open_clip_config.json asks for {', '.join(asked)}, which our towers"
      " do not do; choose a plain CLIP (ViT-B-16, ViT-L-14, ...)"
    )
  epsilon = [
    float((tower.get("norm_kwargs") or {}).get("eps", 1e-5)) for tower in (vision, text)
  ]
  pixels = config.get("preprocess_cfg") or {}
  settings = dict(
    activation="quick_gelu" if model.get("quick_gelu", False) else "gelu",
    epsilon=_agreed(place, "norm eps", *epsilon),
    **_pixels(pixels, "mean", "std"),
  )
  if "width" in vision:
    settings["vision_heads"] = vision["width"] // vision.get("head_width", 64)
  if "heads" in text:
    settings["text_heads"] = text["heads"]
  size = vision.get("image_size")
  if isinstance(size, Sequence) and len(size) == 2:
    settings["image_size"] = tuple(int(length) for length in size)
  if pixels.get("interpolation") in FILTERS:
    settings["filter"] = pixels["interpolation"]
  return settings


# Of tpr_jax.json: name -> how its value becomes a setting.
_OURS = {
  "activation": str,
  "epsilon": float,
  "pixel_mean": lambda value: tuple(map(float, value)),
  "pixel_std": lambda value: tuple(map(float, value)),
  "vision_heads": int,
  "text_heads": int,
  "image_size": lambda value: tuple(map(int, value)),
  "stride": lambda value: tuple(map(int, value)),
  "filter": str,
  "logit_scale": float,
}


def from_tpr_jax(place: str, config: Mapping[str, Any]) -> dict[str, Any]:
  """`Source.settings` out of tpr_jax.json, which export/stablehlo.py writes.

  Raises:
    ConvertError: a setting is missing or of the wrong kind.
  """
  found = config.get("settings")
  missing = sorted(set(_OURS) - set(found if isinstance(found, Mapping) else ()))
  if missing:
    raise ConvertError(
      f"{place}: tpr_jax.json has no settings {', '.join(missing)}; export the run"
      " again"
    )
  try:
    made = {name: kind(found[name]) for name, kind in _OURS.items()}
  except (TypeError, ValueError) as error:
    raise ConvertError(f"{place}: tpr_jax.json: {error}") from error
  if made["activation"] not in ACTIVATIONS:
    raise ConvertError(f"{place}: tpr_jax.json: activation {made['activation']!r}")
  return made
