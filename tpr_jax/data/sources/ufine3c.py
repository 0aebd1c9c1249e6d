"""UFine3C: the cross-setting test set of UFineBench (Zuo et al., CVPR 2024).

Test only; several captions an image, some rewritten by language models. Its key
`source` (the set the image came from) is kept as `truth["source"]`.
"""

import functools

from tpr_jax.data.sources import annotations, layouts, ufine6926

LAYOUT = layouts.Layout(
  name="ufine3c",
  folder="UFine3C",
  annotations=("*.json",),
  images="",
  example="images/1.jpg",
  paper=ufine6926.LAYOUT.paper,
  request=ufine6926.LAYOUT.request,
)
load = functools.partial(annotations.load, LAYOUT)
