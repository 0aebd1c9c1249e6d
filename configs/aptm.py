r"""APTM (arXiv:2306.02898): attribute prompts beside captions, then fine-tuning.

  python -m tpr_jax.main --config=configs/aptm.py
    the embedded run: small towers on rendered people and their true attributes
  python -m tpr_jax.main --config=configs/aptm.py:mals --config.data.root=DIR \
    --config.model.init_image=swin_base_patch4_window7_224_22k.pth \
    --config.model.init_text=bert-base-uncased
    pre-training on MALS; then, from its run or from the published checkpoint,
  python -m tpr_jax.main --config=configs/aptm.py:cuhk_pedes --config.data.root=DIR \
    --config.model.init_from=runs/aptm
    fine-tuning; also :icfg_pedes, :rstpreid, :pedes_json (the same sets as the released
    code's JSON), :folder, :lines, and :rendered_target after :rendered_synthetic;
    :shards pre-trains on what --mode=shards made of MALS
  options after the name: preset=default | released, variant=swin_b | swin_tiny,
    attributes=False (pre-training without them), overfit=True, and of pre-training
    transfer_root=DIR, transfer=A+B: tests on benchmarks below DIR, without fine-tuning

Pre-training: ITC + ITM + MLM of captions + 0.8 / 3 (the same three of prompts). The 54
prompts are sentences of our own for the attributes of the released code, in its order
(tpr_jax/data/mals_prompts.txt); --config.data.views.attributes=FILE has others.
preset=released masks words as the released code does: 10 of all 56 positions, padding
too. Not as it does: prompts and images of the attribute losses are drawn once for the
batch, not on each of its 4 GPUs, whose gather also leaves a quarter of ITC's gradient
on the features (--config.objective.itc_grad_scale=0.25); it keeps the last epoch of
pre-training and the best on test, here validation chooses; captions of ICFG-PEDES and
RSTPReid are cleaned in training too, not in tests and second views alone. Pictures are
normalised by the numbers of their set; those of folder, lines and pedes_json by
CUHK-PEDES's (--config.model.pixel_mean, --config.model.pixel_std).

To reach, Rank-1 / mAP: CUHK-PEDES 76.53 / 66.91 (66.44 without pre-training),
ICFG-PEDES 68.51 / 41.22, RSTPReid 67.50 / 52.56. Most likely with
--config.eval.rerank.combine=dist --config.eval.rerank.processes=4.
"""

from configs import cross_recipe

NAMES = cross_recipe.names("mals")
PRESETS = ("default", "released")
PRETRAINING = ("rendered", "rendered_synthetic", "mals", "shards")
PAIRS = 1_510_330  # of MALS
# Mean and standard deviation of the pictures of a set, in its released code.
MALS = (0.4416847, 0.41812873, 0.4237452), (0.3088255, 0.29743394, 0.301009)
CUHK = (0.38901278, 0.3651612, 0.34836376), (0.24344306, 0.23738699, 0.23368555)
ICFG = (0.30941582, 0.28956893, 0.30347288), (0.25849792, 0.24547698, 0.2366199)
RSTP = (0.27722597, 0.26065794, 0.3036557), (0.2609547, 0.2508087, 0.25293276)
PIXELS = dict(mals=MALS, shards=MALS, icfg_pedes=ICFG, rstpreid=RSTP)
PROJECTIONS = r"^(image|text)_projection/"


def get_config(arg=None):
  arg = cross_recipe.parse(
    arg, NAMES, preset="default", attributes=True, **cross_recipe.TRANSFER
  )
  if arg.preset not in PRESETS:
    raise ValueError(f"config: preset={arg.preset}: expected one of {PRESETS}")
  return build("aptm", arg)


def build(name, arg):
  """The config `name` for a parsed argument: preset, attributes, transfer beside those
  of `cross_recipe.parse`."""
  pretraining = arg.name in PRETRAINING
  cross_recipe.check_transfer(arg, pretraining)
  c = cross_recipe.recipe(name, arg, size=(384, 128))
  c.model.projection, c.model.joint_dim = "token", 256
  c.model.vision_dropout, c.model.drop_path, c.model.text_dropout = 0.0, 0.1, 0.1
  c.eval.rerank.update(by="itm", top=128, combine="single", global_weight=0.002)
  _pictures(c, arg)
  if pretraining:
    _pretraining(c, arg)
  else:
    c.data.batch, c.objective.itm_group = 480, 120  # of 4 GPUs, of each
    c.optim.groups += ((f"{cross_recipe.UPPER}|{PROJECTIONS}", 2.0, 1.0),)
    cross_recipe.second_view(c)
  if arg.preset == "released":
    c.data.views.mask.rule = "released"
  c = cross_recipe.adapt(c, arg)
  if arg.name in ("icfg_pedes", "rstpreid"):
    c.data.options.rule = "icfg_rstp"  # what is left of their captions
  if pretraining and not arg.rendered:
    cross_recipe.transfer(c, arg)
  if arg.tiny:
    _tiny(c)
  return c


def _pictures(c, arg):
  """Augmentation, and the pixels of the set; of rendered people those of CLIP."""
  height, width = c.model.image_size
  mean = c.model.pixel_mean
  if not arg.rendered:
    mean, c.model.pixel_std = PIXELS.get(arg.name, CUHK)
    c.model.pixel_mean = mean
  erasing = cross_recipe.erase(0.6, mean)
  resize = f"resize({height},{width},'bicubic')"
  c.data.image = f"{resize}|flip(0.5)|rand_augment(2,7)|{erasing}"


def _pretraining(c, arg):
  if arg.attributes:
    c.data.views.attributes = "rendered" if arg.rendered else "mals"
    c.losses.update(attr_itc=0.8 / 3, attr_itm=0.8 / 3, attr_mlm=0.8 / 3)
  c.data.batch, c.objective.itm_group = 600, 150
  c.train.epochs = 32.0
  c.optim.groups += ((cross_recipe.CROSS, 2.0, 1.0),)
  c.optim.schedule.kind = "linear"
  c.optim.schedule.warmup_epochs = 2600 * 600 / PAIRS  # 2,600 steps of MALS


def _tiny(c):
  """The same on small towers: no dropout, no augmentation, the grid of 96 x 48."""
  c.data.image = c.data.eval_image
  c.model.window, c.model.window_last, c.model.joint_dim = 6, 3, 96
  c.model.text_dropout = c.model.drop_path = 0.0
  c.objective.itm_group = 0
  c.data.batch = 48
  c.eval.rerank.top = 50
