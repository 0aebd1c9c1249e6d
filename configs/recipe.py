"""The recipe that IRRA and CFAM share, and what changes where it meets small data.

Adam with L2 decay, B/16 at 384 x 128, 60 epochs of 64 (IRRA, arXiv:2303.12501, and its
code; UFineBench, CVPR 2024). A config takes `recipe`, sets what is its own, and ends
with `adapt`.
"""

from collections.abc import Sequence
from types import SimpleNamespace

from ml_collections import ConfigDict

from configs import common

NAMES = (
  "rendered",
  "cuhk_pedes",
  "icfg_pedes",
  "rstpreid",
  "ufine6926",
  "folder",
  "lines",
  "archive",
  "shards",
)
OPTIONS = dict(variant="", overfit=False, texts="", cross="")
TEXTS = ("fine", "medium", "coarse")


def parse(arg: str | None, names: Sequence[str] = NAMES, **options) -> SimpleNamespace:
  """The argument of a config (common.parse): its name, OPTIONS, and the `options`.

  Raises:
    ValueError: an unknown name, option or value.
  """
  arg = common.parse(arg, names, **OPTIONS, **options)
  arg.rendered = arg.name.startswith("rendered")
  if arg.texts and (arg.texts not in TEXTS or not arg.rendered):
    raise ValueError(
      f"config: texts={arg.texts} names one granularity of the texts of rendered"
      f" people: {', '.join(TEXTS)}"
    )
  arg.variant = arg.variant or ("tiny" if arg.rendered else "B/16")
  arg.tiny = arg.variant == "tiny"
  return arg


def base(name: str, arg: SimpleNamespace, size: tuple[int, int]) -> ConfigDict:
  """What the configs of all models have alike: input, training and evaluation.

  Args:
    size: (height, width) of the pictures.
  """
  c = ConfigDict()
  c.name = name
  c.seed = 0
  c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
  # Where parameters live over fsdp and tensor: (regex, rule) pairs, and "auto" for all
  # those of core/sharding.py; the first that matches counts.
  c.shardings = ("auto",)

  c.data = common.data(arg.name, size=size)
  # "auto": that of model.init_from, or else CLIP's ("instant"); see data/tokenizer.py
  c.text = ConfigDict(dict(tokenizer="auto", length=77))
  # captions padded to the smallest that holds them; () = all to length
  c.text.buckets = ()
  c.text.short_first = 0  # so many first steps take the shortest bucket alone

  c.model = common.model(arg.variant)

  c.train = ConfigDict(dict(epochs=60.0, steps=0))  # steps > 0 wins
  c.train.micro_batches = 1  # the batch in so many pieces: same gradient, less memory
  c.train.log_every = 50
  c.train.eval_every = 1.0  # epochs between validations (and checkpoints)
  c.train.select = "R1"  # validation score that picks the checkpoint
  c.train.keep_last = 2
  c.train.keep_best = 1
  # The same bytes each time on a GPU too (tpr_jax/core/deterministic.py); slower there.
  c.train.deterministic = True

  c.eval = ConfigDict(dict(batch=128, msd_variant="paper"))
  c.eval.ci_level = 0.95  # of the intervals by identity (metrics/uncertainty.py)
  c.eval.ci_resamples = 2000  # 0: no intervals
  # Also score the tests at every validation; the best is shown beside the selected one.
  c.eval.legacy = False
  c.eval.save_features = False  # keep features/NAME.npz in the run folder
  # Features of images are the mean with those of mirror images, in validation too.
  c.eval.flip = False
  # Two-stage ranking (tpr_jax/two_stage.py). by: "" (off), "local", "matcher",
  # "local+matcher" or "itm" (a cross-encoder's); top: images of the shortlist; the
  # shortlist is sorted by the second score + global_weight x global cosine.
  c.eval.rerank = ConfigDict(dict(by="", top=100, global_weight=1.0))
  # "sum" of the two as they are; or both scaled to [0, 1] as APTM and MRA do it, with
  # global_weight 0.002: "single" on one GPU, "dist" on as many as `processes`.
  c.eval.rerank.combine, c.eval.rerank.processes = "sum", 4
  # What the device holds of an image for "itm": "tokens", "keys" that its attention
  # makes of them, which are larger and save time, or "auto": keys where there is room.
  c.eval.rerank.cache = "auto"
  # Queries of validation by which probabilities of hits are fitted, and of each test by
  # which they are judged (tpr_jax/calibrate.py); 0: none.
  c.eval.calibrate = 1000
  # Queries whose words and patches are weighed (tpr_jax/saliency.py).
  c.eval.saliency = 4
  c.evals = ConfigDict(dict(test=common.evaluation("test")))
  return c


def recipe(name: str, arg: SimpleNamespace) -> ConfigDict:
  """The config `name` for what was asked; it has every field, and no loss yet."""
  c = base(name, arg, (96, 40) if arg.tiny else (384, 128))
  c.text.mask_share = 0.0  # text augmentation: share of the words
  c.text.mask_as_mask, c.text.mask_as_random = 0.8, 0.1  # of the chosen; the rest stay

  c.losses = ConfigDict(
    dict(infonce=0.0, sdm=0.0, sdm_local=0.0, matching=0.0, identity=0.0, mlm=0.0)
  )
  c.objective = ConfigDict()
  c.objective.temperature = 0.02
  c.objective.learn_temperature = False
  c.objective.soft_labels = False  # SDM: same identity, other image counts 0.3
  c.objective.negatives = "local"  # hard negatives by the "local" or "global" cosine
  c.objective.exclude = "identity"  # negatives never of the same "identity" | "pair"
  c.objective.identity = "shared"  # "fused" pairs (CFAM), or IRRA's "shared" classifier
  c.objective.mlm_share = 0.15  # share of the words that the loss mlm masks
  c.objective.mlm_in_place = False  # every loss reads the captions that mlm has masked

  c.objective.dual = common.dual_masking()

  # Adam with L2, IRRA's epsilon; new modules 5x, biases 2x.
  c.optim = ConfigDict(dict(name="adam", lr=1e-5, b1=0.9, b2=0.999, eps=1e-3))
  c.optim.weight_decay = 4e-5
  c.optim.decay = "l2"
  c.optim.clip = 0.0
  c.optim.freeze = ()  # regexes of parameters that do not train (tpr_jax/freezing.py)
  c.optim.muon = ""  # regex: matrices that take Muon's update; "": Adam for everything
  c.optim.groups = (("^(?!visual/|text/)", 5.0, 1.0), ("bias$", 2.0, 0.0))
  c.optim.schedule = ConfigDict(
    dict(kind="cosine", per="step", warmup_epochs=5.0, warmup_from=0.1, end=0.0)
  )

  # How well scores of words (objective.dual.score) find wrong ones, for so many of the
  # captions trained on, at every validation (tpr_jax/word_scores.py). 0: not asked.
  kinds = ("gass", "grad_eclip", "cosine", "random")
  c.eval.word_scores = ConfigDict(dict(captions=0, kinds=kinds))
  return c


def transfer(c: ConfigDict, arg: SimpleNamespace, known: Sequence[str]) -> None:
  """Adds the tests of `arg.transfer`, "A+B", below `arg.transfer_root`, where given.

  Raises:
    ValueError: a set that is not among `known`.
  """
  for name in filter(None, arg.transfer.split("+") if arg.transfer_root else ()):
    if name not in known:
      raise ValueError(f"config: transfer={name!r}.{common.nearest(name, known)}")
    c.evals[name] = common.evaluation(
      "test", name=name, root=arg.transfer_root, note="direct transfer: not fine-tuned"
    )
    c.evals[name].options = common.loader_options(name)


def adapt(c: ConfigDict, arg: SimpleNamespace) -> ConfigDict:
  """The last word: validation, small towers, the embedded run, over-fitting."""
  c.data.options = common.loader_options(arg.name)
  if not arg.rendered and arg.name not in ("cuhk_pedes", "rstpreid"):
    c.data.val, c.data.val_share = "", 0.05  # these have no val split
  if arg.name == "shards":  # of a stream no identities can be set aside; and it is
    c.data.val_share, c.data.cache_mb = 0.0, 0  # for sets that no memory holds
  if arg.tiny or arg.rendered:
    _from_scratch(c)
  if arg.rendered:
    _embedded(c)
    if arg.texts:
      _one_granularity(c, arg.texts)
  if arg.cross:  # a folder that --mode=build_cross has written
    c.evals.cross = common.evaluation(
      "test", name="folder", root=arg.cross, group_by="source"
    )
  if arg.overfit:
    _overfit(c)
  return c


# Beside InfoNCE, where towers start from random weights: each term at about its size
# (SDM's carry a factor of 18).
_SMALL = dict(sdm=0.02, sdm_local=0.02, matching=0.1, identity=0.1, mlm=0.1)


def _from_scratch(c):
  """No pretrained weights: a small vocabulary, larger rates, InfoNCE beside SDM."""
  c.text.tokenizer = "people"
  # From random weights SDM alone, a reverse KL, settles at uniform similarities and
  # stays there; InfoNCE leads out (README, "Training from random weights").
  for name, weight in _SMALL.items():
    c.losses[name] *= weight
  c.losses.infonce = 1.0
  height, width = c.model.image_size
  c.data.image = f"resize({height},{width})|flip(0.5)|pad_crop(4)|erase(0.3)"
  # Muon learns from scratch in far fewer steps than Adam (README, same section).
  c.optim.lr, c.optim.eps, c.optim.clip, c.optim.muon = 4e-3, 1e-8, 1.0, "kernel$"
  c.optim.weight_decay, c.optim.decay = 0.01, "decoupled"
  c.optim.groups = (("bias$|scale$", 1.0, 0.0),)
  c.optim.schedule.per = "step"


def _embedded(c):
  """Rendered people: trained in minutes, tested on identities never seen."""
  c.data.options.update(
    identities=3000, views=2, granularity=("fine", "fine", "coarse")
  )
  c.data.val_options = ConfigDict(
    dict(identities=100, views=2, granularity=("fine",), pair_noise=0.0, word_noise=0.0)
  )
  height, width = c.model.image_size
  c.data.image = f"resize({height},{width})|pad_crop(4)"
  c.data.batch = 48
  c.text.length = 152  # the longest text of the grammar has 148 tokens
  # Too few steps to learn through noise.
  c.text.mask_share, c.objective.mlm_in_place = 0.0, False
  # Coarse texts cost a third of fine ones and teach the colours and garments first.
  c.text.buckets, c.text.short_first = (40,), 200
  c.objective.temperature = 0.05
  c.train.steps, c.train.eval_every, c.train.log_every = 900, 1.0, 50
  c.optim.schedule.kind, c.optim.schedule.warmup_epochs = "linear", 0.2
  c.evals = ConfigDict(
    dict(
      test=unseen("fine", group_by="twin_group"),
      test_coarse=unseen("coarse", group_by="twin_group"),
      test_shuffled=unseen(
        "fine",
        pair_noise=1.0,
        note="control: every text is given to another person; must be at chance",
      ),
    )
  )


def unseen(*granularity, **changes):
  """A test of rendered people that nothing was chosen on.

  Other people than those of seed 0: the recipe was chosen on validation people alone.
  Their texts are right even where training has wrong ones (pair_noise, word_noise).
  """
  people = dict(seed=2, identities=200, views=2, pair_noise=0.0, word_noise=0.0)
  return common.evaluation("test", **(people | changes), granularity=granularity)


def _one_granularity(c, texts):
  """Trained on texts of one granularity, tested on each and on all: UFineBench's
  question (its Tables 2 and 3) in miniature. Every row has the same steps."""
  c.data.options.granularity = c.data.val_options.granularity = (texts,)
  c.text.buckets, c.text.short_first = (40, 88), 0
  tests = {f"test_{name}": unseen(name) for name in TEXTS}
  c.evals = ConfigDict(dict(tests, test_mixed=unseen(*TEXTS)))


def _overfit(c):
  """Can the model fit what it sees? No augmentation, no selection, scored on train."""
  c.data.val, c.data.val_share = "", 0.0
  c.data.image, c.text.mask_share = c.data.eval_image, 0.0
  c.objective.mlm_in_place = False
  c.train.epochs, c.train.eval_every = 60.0, 10.0
  c.evals.train = common.evaluation("train", note="training pairs: fit, not skill")
