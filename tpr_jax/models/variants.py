"""The numbers of the published towers, by name; every field can be overridden.

Sizes are (height, width). "B/16", "B/32" and "L/14" are CLIP's towers (Radford et al.,
arXiv:2103.00020, Table 20) at the resolution and text length of person retrieval;
"tiny" is ours, small enough to train from scratch on two CPU cores.
"""

from typing import Any

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
  mlm_heads=8,
  mlm_layers=4,
  learn_scale=False,
  initial_scale=50.0,
  drop_path=0.0,
  remat=False,
  adapters=(),  # rules of models/adapters.py
  dtype="float32",
  residual="float32",  # of what blocks add to; or "same": dtype
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
  mlm_heads=12,
)
# From scratch on two CPU cores: the text is long (up to 150 tokens) and costs most, so
# its tower is shallow; a quarter of CFAM's parts, for the matcher sees 3B pairs.
_TINY = dict(
  image_size=(96, 40),
  patch=(8, 8),
  vision_width=96,
  vision_layers=3,
  vision_heads=2,
  text_length=152,
  text_width=96,
  text_layers=2,
  text_heads=2,
  joint_dim=96,
  part_queries=4,
  part_width=96,
  part_heads=2,
  part_layers=1,
  matcher_heads=2,
  matcher_layers=1,
  mlm_heads=2,
  mlm_layers=1,
)

# Fields that pretrained weights bring along: None in a config asks for theirs, and for
# the variant's where there are no weights.
OF_WEIGHTS = ("activation", "epsilon", "pixel_mean", "pixel_std")

# Every variant has the same keys: the fields that a config may override.
VARIANTS: dict[str, dict[str, Any]] = {
  "B/16": {**_COMMON, **_BASE, "patch": (16, 16)},
  "B/32": {**_COMMON, **_BASE, "patch": (32, 32)},
  "L/14": {**_COMMON, **_LARGE, "patch": (14, 14)},
  "tiny": {**_COMMON, **_TINY},
}
