"""RSTPReid: Zhu et al., "DSSL", ACM Multimedia 2021.

Two captions an image, splits train, val and test, identities from 0. Its JSON calls
the path `img_path`; the name of a file holds the camera. Two divisions of it are in
circulation; see `data/published.py`.
"""

import functools

from tpr_jax.data.sources import annotations, layouts

LAYOUT = layouts.Layout(
  name="rstpreid",
  folder="RSTPReid",
  annotations=("data_captions.json",),
  images="imgs",
  example="0000_c5_0022.jpg",
  paper=(
    'Zhu et al., "DSSL: Deep Surroundings-person Separation Learning for Text-based '
    'Person Retrieval", ACM Multimedia 2021'
  ),
  request="https://github.com/NjtechCVLab/RSTPReid-Dataset",
  image_key="img_path",
  in_name=r"\d+_c(?P<camera>\d+)_",
)
load = functools.partial(annotations.load, LAYOUT)
