"""UFine6926: Zuo et al., "UFineBench", CVPR 2024.

Two ultra-fine captions an image, splits train and test (no val). A folder written from
rendered people has the same layout, and may have a val split.
"""

import functools

from tpr_jax.data.sources import annotations, layouts

LAYOUT = layouts.Layout(
  name="ufine6926",
  folder="UFine6926",
  annotations=("*.json",),
  images="",
  example="images/1.jpg",
  paper=(
    'Zuo et al., "UFineBench: Towards Text-based Person Retrieval with Ultra-fine '
    'Granularity", CVPR 2024'
  ),
  request="https://github.com/Zplusdragon/UFineBench",
)
load = functools.partial(annotations.load, LAYOUT)
