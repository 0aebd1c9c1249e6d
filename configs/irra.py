r"""IRRA (Jiang & Ye, CVPR 2023, arXiv:2303.12501): SDM, identity, masked words.

  python -m tpr_jax.main --config=configs/irra.py
    the embedded run: small towers on rendered people
  python -m tpr_jax.main --config=configs/irra.py:cuhk_pedes --config.data.root=DIR \
    --config.model.init_from=openai/clip-vit-base-patch16
    the released recipe; also :icfg_pedes, :rstpreid, :ufine6926, :folder, :archive,
    :shards
  options after the name: variant=L/14 | B/16 | B/32 | tiny, overfit=True,
    texts=fine | medium | coarse (rendered: trained on these alone),
    cross=DIR (also tested on what --mode=build_cross wrote)

Optimizer groups and schedule are those of the released code, letter by letter: the
cross-modal encoder at 5x and its biases at 2x; classifier and word head at 5x, biases
too; the three LayerNorms around the encoder at 1x; no decay on biases; the learning
rate changes once an epoch. That code masks the words in place, so that SDM and the
classifier read masked captions too, where the paper draws whole ones: its tables come
from the former; objective.mlm_in_place=False is the latter.

To reach, Rank-1 / mAP (the paper): CUHK-PEDES 73.38 / 66.13, ICFG-PEDES
63.46 / 38.06, RSTPReid 60.20 / 47.17; UFine6926 83.53 / 82.79 (UFineBench).
"""

from configs import recipe

NAMES = recipe.NAMES
# Every pattern that matches multiplies, so the ones with a factor exclude each other.
GROUPS = (
  (r"bias$", 1.0, 0.0),
  (r"^(visual|text)/.*bias$|^mlm/(cross_attn|blocks|ln_\w+)/.*bias$", 2.0, 1.0),
  (r"^mlm/(cross_attn|blocks)/.*(kernel|scale)$", 5.0, 1.0),
  (r"^identity_shared/|^mlm/head/", 5.0, 1.0),
)


def get_config(arg=None):
  arg = recipe.parse(arg)
  c = recipe.recipe("irra", arg)
  c.losses.update(sdm=1.0, identity=1.0, mlm=1.0)
  c.objective.mlm_in_place = True
  c.optim.groups = GROUPS
  c.optim.schedule.per = "epoch"
  return recipe.adapt(c, arg)
