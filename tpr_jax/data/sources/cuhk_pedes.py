"""CUHK-PEDES: Li et al., "Person Search with Natural Language Description", CVPR 2017.

Two captions an image (a few have more or fewer), splits train, val and test, training
identities 1..11003. `processed_tokens` of the JSON is not kept.
"""

import functools

from tpr_jax.data.sources import annotations, layouts

LAYOUT = layouts.Layout(
  name="cuhk_pedes",
  folder="CUHK-PEDES",
  annotations=("reid_raw.json",),
  images="imgs",
  example="CUHK01/0363004.png",
  paper='Li et al., "Person Search with Natural Language Description", CVPR 2017',
  request=(
    "https://github.com/ShuangLI59/Person-Search-with-Natural-Language-Description"
  ),
)
load = functools.partial(annotations.load, LAYOUT)
