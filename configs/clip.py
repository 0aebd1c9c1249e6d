r"""CLIP fine-tuned with InfoNCE alone: the baseline of IRRA's and CFAM's tables.

  python -m tpr_jax.main --config=configs/clip.py
    the embedded run: small towers on rendered people
  python -m tpr_jax.main --config=configs/clip.py:cuhk_pedes --config.data.root=DIR \
    --config.model.init_from=openai/clip-vit-base-patch16
    on real data; also :icfg_pedes, :rstpreid, :ufine6926, :folder, :archive, :shards
  options after the name: variant=L/14 | B/16 | B/32 | tiny, overfit=True,
    texts=fine | medium | coarse (rendered: trained on these alone),
    cross=DIR (also tested on what --mode=build_cross wrote)

The recipe is IRRA's (77 tokens, its optimizer and schedule); `cfam.py:NAME,ablation=0`
is the same loss in CFAM's setting (168 tokens, text augmentation).

To reach, Rank-1 / mAP: CUHK-PEDES 68.45 / 61.28 (UFineBench, ablation No. 0).
"""

from configs import recipe

NAMES = recipe.NAMES


def get_config(arg=None):
  arg = recipe.parse(arg)
  c = recipe.recipe("clip", arg)
  c.losses.infonce = 1.0
  c.optim.groups = (("bias$", 2.0, 0.0),)
  c.optim.schedule.per = "epoch"
  return recipe.adapt(c, arg)
