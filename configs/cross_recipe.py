"""What the configs of APTM and MRA share: Swin + BERT, and fields of their objective.

arXiv:2306.02898, arXiv:2507.10195 and their released code. A config takes `recipe`,
sets what is its own, and ends with `adapt`.
"""

from types import SimpleNamespace

from ml_collections import ConfigDict

from configs import common
from configs import recipe as recipes
from tpr_jax.models.cross_variants import VARIANTS

BENCHMARKS = ("cuhk_pedes", "icfg_pedes", "rstpreid")
OPTIONS = dict(variant="", overfit=False)
TRANSFER = dict(transfer="cuhk_pedes", transfer_root="")  # of pre-training
# Groups multiply: decay is 0 for biases, LayerNorms and tables of relative positions;
# batch norm, the ITM head's LayerNorm, embeddings and the temperature do decay.
NO_DECAY = r"bias$|relative_position_bias$|^(?!itm/).*/?ln\w*/scale$"
# What the released code trains twice as fast when it fine-tunes.
UPPER = (
  r"^visual/stage_[23]/"  # with the merging behind stage 2
  r"|^text/layer_(4|5|10|11)/|^words/|^itm/"
)
CROSS = r"^text/layer_\d+/cross"


def names(pretraining: str) -> tuple[str, ...]:
  """What the first word of a config's argument may be.

  Args:
    pretraining: the set of files that the system pre-trains on.
  """
  rendered = ("rendered", "rendered_synthetic", "rendered_target")
  own = ("pedes_json", "folder", "lines", "shards")
  return (*rendered, pretraining, *BENCHMARKS, *own)


def recipe(name: str, arg: SimpleNamespace, *, size: tuple[int, int]) -> ConfigDict:
  """The config `name` for what was asked; it has every field, and no loss yet.

  Args:
    size: (height, width) of the pictures.
  """
  size = (96, 48) if arg.tiny else size
  c = recipes.base(name, arg, size)
  c.model.image_size = size
  height, width = size
  c.data.eval_image = f"resize({height},{width},'bicubic')"
  # What a row shows beside picture and caption (tpr_jax/data/views.py).
  c.data.views = ConfigDict()
  c.data.views.region = ()  # (rows, columns) of the last stage; (): no regions
  # synonyms "": no second view of a caption (tpr_jax/data/eda.py).
  rates = dict(replace=0.1, insert=0.1, swap=0.1, delete=0.1)
  c.data.views.eda = ConfigDict(dict(synonyms="", **rates))
  # Masked words (tpr_jax/data/span_masking.py): rule "words", "released" or "" (none).
  c.data.views.mask = ConfigDict(dict(rule="words", share=0.25, most=10))
  c.data.views.mask.update(span_share=0.2, longest=3, mask=0.8, random=0.1)
  # Phrases of regions that are looked for in their pictures, in tests whose data has
  # boxes (tpr_jax/localise.py); 0: none.
  c.eval.localise = 0
  # By the attention of their "words" or of "cls", the first token, which ITM reads;
  # either also with "*gradient", weighted by what speaks for the pair.
  c.eval.localise_by = "cls*gradient"
  # Labels of attributes, for prompts (tpr_jax/data/prompts.py): "mals", "rendered", a
  # file with a sentence a line, or "" (none).
  c.data.views.attributes = ""
  c.text.length = 56
  c.text.tokenizer = "auto"  # that of model.init_from or model.init_text

  c.losses = ConfigDict(dict(itc=1.0, itm=1.0, mlm=1.0, eda_itc=0.0, eda_itm=0.0))
  c.losses.update(region_itc=0.0, region_itm=0.0)
  c.losses.update(attr_itc=0.0, attr_itm=0.0, attr_mlm=0.0)
  c.objective = ConfigDict()
  c.objective.temperature = 0.07  # at the start: it is learnt, divides, has no limit
  c.objective.label_smoothing, c.objective.itm_smoothing = 0.0, 0.0  # of ITC, of ITM
  # Factor on the gradient that ITC gives the features; the code's: 1 / number of GPUs.
  c.objective.itc_grad_scale = 1.0
  c.objective.itm_group = 0  # negatives within so many rows, the code's GPU; 0: all
  c.objective.itm_pieces = 1  # pairs of ITM in so many pieces: same loss, less memory
  # What region_itc compares: the "region", or the whole "image" as the code does.
  c.objective.region_feature = "region"
  # What region_itc takes for a match: equal phrases, the code's; or a region's own
  # "pair" alone, the paper's one-hot labels.
  c.objective.region_positives = "phrase"
  c.objective.region_mean = True  # ITM may look at the region's mean; the code: no
  c.objective.attr_smoothing = 0.4  # of attr_itc and attr_itm
  c.objective.attr_prompts = 5  # that attr_itm draws for a step, beside every image

  c.optim = ConfigDict(dict(name="adam", lr=1e-4, b1=0.9, b2=0.98, eps=1e-8))
  c.optim.weight_decay, c.optim.decay = 0.01, "decoupled"
  c.optim.clip, c.optim.muon = 0.0, ""
  c.optim.freeze = ()  # regexes of parameters that do not train (tpr_jax/freezing.py)
  c.optim.groups = ((NO_DECAY, 1.0, 0.0),)
  c.optim.schedule = ConfigDict(
    dict(kind="step", per="step", warmup_epochs=3.0, warmup_from=0.0, end=0.0)
  )
  c.train.epochs = 30.0
  return c


def erase(p: float, mean=None) -> str:
  """Random erasing of both as an op of a pipe: uniform aspect, a hundred tries.

  mean: of the pixels, three shares: the colour to fill with; None: CLIP's.
  """
  fill = "" if mean is None else f",fill={tuple(round(255 * m) for m in mean)}"
  fill = fill.replace(" ", "")
  return f"erase({p},aspect=(0.3,3.3333333333){fill},uniform=True,tries=100)"


def second_view(c: ConfigDict) -> None:
  """An edited second view of every caption, with which both systems fine-tune."""
  c.data.views.eda.synonyms = "people"
  c.losses.update(eda_itc=0.8, eda_itm=0.8)


def parse(arg: str | None, names, **options) -> SimpleNamespace:
  """The argument of a config (common.parse): its name, OPTIONS, and the `options`."""
  arg = common.parse(arg, names, **OPTIONS, **options)
  arg.rendered = arg.name.startswith("rendered")
  arg.variant = arg.variant or ("swin_tiny" if arg.rendered else "swin_b")
  if arg.variant not in VARIANTS:
    raise ValueError(
      f"config: variant={arg.variant} is not one of Swin + BERT."
      f"{common.nearest(arg.variant, tuple(VARIANTS))}"
    )
  arg.tiny = arg.variant == "swin_tiny"
  return arg


def check_transfer(arg: SimpleNamespace, pretraining: bool) -> None:
  """Raises ValueError where sets to transfer to are named for no pre-training."""
  if arg.transfer_root and (arg.rendered or not pretraining):
    raise ValueError(
      f"config: transfer_root={arg.transfer_root}: for pre-training on files alone"
    )


def transfer(c: ConfigDict, arg: SimpleNamespace) -> None:
  """Sets to pre-train on have no test split; those of other sets may be scored."""
  if c.data.val_share:  # some three thousand of a million pictures are enough
    c.data.val_share = 0.002
  del c.evals["test"]
  recipes.transfer(c, arg, BENCHMARKS)


def adapt(c: ConfigDict, arg: SimpleNamespace) -> ConfigDict:
  """The last word: options of the loader, validation, small towers, over-fitting."""
  c.data.options = common.loader_options(arg.name)
  if not arg.rendered and arg.name not in ("cuhk_pedes", "rstpreid", "pedes_json"):
    c.data.val, c.data.val_share = "", 0.05  # these have no val split
  if arg.name == "shards":  # of a stream no identities can be set aside; and it is
    c.data.val_share, c.data.cache_mb = 0.0, 0  # for sets that no memory holds
  if arg.rendered:
    _embedded(c)
  if arg.tiny:
    _from_scratch(c)
  if arg.overfit:
    c.data.val, c.data.val_share = "", 0.0
    c.data.image = c.data.eval_image
    c.train.epochs, c.train.eval_every = 60.0, 10.0
    c.evals.train = common.evaluation("train", note="training pairs: fit, not skill")
  return c


def _embedded(c):
  """Rendered people, whose true regions are known; tested on people never seen."""
  c.text.tokenizer = "people_wordpiece"
  shown = c.data.views
  c.data.options.update(identities=3000, views=2, granularity=("medium", "coarse"))
  c.data.options.update(regions=bool(shown.region), labels=bool(shown.attributes))
  c.data.val_options = ConfigDict(
    dict(identities=100, views=2, granularity=("medium",), word_noise=0.0)
  )
  c.data.val_options.update(pair_noise=0.0, regions=False, labels=False)
  c.data.batch = 48
  c.train.steps, c.train.eval_every, c.train.log_every = 900, 1.0, 50
  unseen = dict(group_by="twin_group", regions=False, labels=False)
  c.evals = ConfigDict(
    dict(
      test=recipes.unseen("medium", **unseen),
      test_coarse=recipes.unseen("coarse", **unseen),
      test_shuffled=recipes.unseen(
        "medium",
        regions=False,
        labels=False,
        pair_noise=1.0,
        note="control: every text is given to another person; must be at chance",
      ),
    )
  )


def _from_scratch(c):
  """No pretrained weights: Muon and larger rates (README), short warm-up."""
  c.optim.lr, c.optim.clip, c.optim.muon = 4e-3, 1.0, "kernel$"
  c.optim.b2 = 0.999
  c.optim.groups = ((r"bias$|scale$|/bn/|relative_position", 1.0, 0.0),)
  c.optim.schedule.kind, c.optim.schedule.warmup_epochs = "linear", 0.2
