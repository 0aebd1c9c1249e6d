"""The programs that the suite measures: CFAM by the recipe of CUHK-PEDES, in two sizes.

"B/16" is what is published (384 x 128, 168 tokens, 11,003 identities); "tiny" has small
towers and pictures, for trying the suite itself.
"""

from configs import cfam

SIZES = ("B/16", "tiny")
CLASSES = {"B/16": 11_003, "tiny": 100}
# Text lengths that captions are sorted into where padding is spared.
BUCKETS = {"B/16": (32, 64), "tiny": (32, 64)}
_TINY = dict(
  image_size=(96, 32),
  vision_width=64,
  vision_layers=2,
  vision_heads=4,
  text_width=64,
  text_layers=2,
  text_heads=4,
  joint_dim=64,
  part_width=64,
  part_heads=4,
  part_queries=4,
  part_layers=1,
  matcher_heads=4,
  matcher_layers=1,
)


def config(
  size: str,
  dtype: str = "float32",
  length: int = 0,
  remat: bool = False,
  residual: str = "float32",
):
  """configs/cfam.py:cuhk_pedes on random weights, Adam for everything.

  Args:
    length: of the texts; 0: the recipe's.
    residual: dtype of the residual stream, as `model.residual`.
  """
  c = cfam.get_config("cuhk_pedes")
  if size == "tiny":
    c.model.update(_TINY)
    c.text.length = 96
  elif size != "B/16":
    raise ValueError(f"size {size!r}: expected one of {', '.join(SIZES)}")
  c.model.dtype, c.model.remat, c.model.residual = dtype, remat, residual
  c.optim.muon = ""
  c.text.length = length or c.text.length
  return c
