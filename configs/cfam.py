r"""CFAM (UFineBench, CVPR 2024): global and part-wise SDM, matching, identity.

  python -m tpr_jax.main --config=configs/cfam.py
    the embedded run: small towers on rendered people, minutes on two CPU cores
  python -m tpr_jax.main --config=configs/cfam.py:ufine6926 --config.data.root=DIR
    the paper's recipe; also :cuhk_pedes, :icfg_pedes, :rstpreid,
    and :folder (pictures and captions of one's own), :archive and :shards (ArrayRecord)
  options after the name: variant=L/14 | B/16 | B/32 | tiny, overfit=True,
    ablation=0 .. 4, texts=fine | medium | coarse (rendered: trained on these alone),
    cross=DIR (also tested on what --mode=build_cross wrote),
    adapters=wora | dora | lora (the four maps of each block are frozen and have
    adapters of rank 8; needs --config.model.init_from)

Small towers start from random weights and keep InfoNCE beside every row below;
losses.infonce=0 leaves it out there too.

The ablation: `:cuhk_pedes,ablation=3`, or by overrides:
  0 InfoNCE --config.losses.infonce=1 --config.losses.sdm=0 --config.losses.sdm_local=0
            --config.losses.matching=0 --config.losses.identity=0
  1 + L_gs  --config.losses.sdm_local=0 --config.losses.matching=0
            --config.losses.identity=0
  2 + L_ls  --config.losses.matching=0 --config.losses.identity=0
  3 + L_m   --config.losses.identity=0
  4 + L_cid the default

To reach, Rank-1 / mAP, from CLIP's weights (the paper):
CUHK-PEDES 73.67 / 65.94 (L/14 76.71 / 68.47), ICFG-PEDES 63.57 / 38.34, RSTPReid
60.51 / 47.64, UFine6926 86.65 / 85.23; the rows on CUHK-PEDES 68.45, 70.42, 71.69,
72.42, 73.67.
"""

from configs import recipe
from tpr_jax.models.adapter_methods import METHODS

NAMES = recipe.NAMES
BLOCKS = r"^(visual|text)/blocks/.*/(qkv|out|fc|proj)$"
ROWS = ("infonce", "sdm", "sdm_local", "matching", "identity")


def get_config(arg=None):
  arg = recipe.parse(arg, ablation=4, adapters="")
  if not 0 <= arg.ablation < len(ROWS):
    raise ValueError(
      f"config: ablation={arg.ablation}: expected 0 (InfoNCE) to 4 (all of CFAM)"
    )
  if arg.adapters not in ("", *METHODS):
    raise ValueError(
      f"config: adapters={arg.adapters}: expected one of {', '.join(METHODS)}"
    )
  c = recipe.recipe("cfam", arg)
  c.text.length = 168
  c.text.mask_share = 0.15
  for loss in ROWS[1 : arg.ablation + 1] or ROWS[:1]:
    c.losses[loss] = 1.0
  c.objective.identity = "fused"
  if arg.adapters:
    c.model.adapters = ((BLOCKS, dict(method=arg.adapters, rank=8)),)
  return recipe.adapt(c, arg)
