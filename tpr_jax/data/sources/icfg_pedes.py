"""ICFG-PEDES: Ding et al., arXiv:2107.12666 (the SSAN paper).

One caption an image, splits train and test (no val), training identities from 0. Its
JSON goes by two names. `processed_tokens` is not kept. Images are MSMT17's, whose names
hold the camera and the time of day (Wei et al., arXiv:1711.08565).
"""

import functools

from tpr_jax.data.sources import annotations, layouts

LAYOUT = layouts.Layout(
  name="icfg_pedes",
  folder="ICFG-PEDES",
  annotations=("ICFG-PEDES.json", "ICFG_PEDES.json"),
  images="imgs",
  example="train/0000/0000_000_01_0303morning_0008_0.jpg",
  paper=(
    'Ding et al., "Semantically Self-Aligned Network for Text-to-Image Part-aware '
    'Person Re-identification", arXiv:2107.12666'
  ),
  request="https://github.com/zifyloo/SSAN",
  in_name=r"\d+_\d+_(?P<camera>\d+)_\d+(?P<time>morning|noon|afternoon)_",
)
load = functools.partial(annotations.load, LAYOUT)
