"""The numbers of the Swin + BERT models, by name; every field can be overridden.

"swin_b" is what APTM (arXiv:2306.02898) and MRA (arXiv:2507.10195) share: Swin-B and
BERT-base, cut after its sixth layer. "swin_tiny" is ours, small enough to train from
scratch on two CPU cores. Sizes are (height, width) in pixels.
"""

from typing import Any

_COMMON = dict(
  window_last=None,  # of the last stage; None: as the others
  epsilon=1e-5,  # of the image tower
  pixel_mean=(0.48145466, 0.4578275, 0.40821073),
  pixel_std=(0.26862954, 0.26130258, 0.27577711),
  vision_dropout=0.0,
  drop_path=0.0,
  text_dropout=0.1,
  text_epsilon=1e-12,
  # "bins": three bins, batch normalisation, dropout, a linear map; "token": token 0.
  projection="bins",
  projection_dropout=0.5,
  text_bins="all",  # positions that a text's bins average: "all", or "text" alone
  initial_temperature=0.07,
  remat=False,
  adapters=(),  # rules of models/adapters.py
  dtype="float32",
  residual="float32",  # of what blocks add to; or "same": dtype
)

# Every variant has the same keys: the fields that a config may override.
VARIANTS: dict[str, dict[str, Any]] = {
  "swin_b": dict(
    _COMMON,
    image_size=(384, 256),
    patch=4,
    window=8,
    window_last=4,
    vision_width=128,
    vision_depths=(2, 2, 18, 2),
    vision_heads=(4, 8, 16, 32),
    text_length=56,
    text_positions=512,
    text_width=768,
    text_hidden=3072,
    text_layers=12,
    text_heads=12,
    fusion_layer=6,
    joint_dim=2048,
  ),
  "swin_tiny": dict(
    _COMMON,
    image_size=(96, 48),
    patch=8,
    window=6,
    window_last=3,
    vision_width=64,
    vision_depths=(2, 2),
    vision_heads=(2, 4),
    text_length=56,
    text_positions=160,
    text_width=96,
    text_hidden=384,
    text_layers=4,
    text_heads=2,
    fusion_layer=2,
    joint_dim=96,
    text_dropout=0.0,
    projection_dropout=0.0,
  ),
}
