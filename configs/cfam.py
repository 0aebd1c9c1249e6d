r"""CFAM (UFineBench, CVPR 2024): global and part-wise SDM, matching, identity.

  python -m tpr_jax.main --config=configs/cfam.py
    the embedded run: small towers on rendered people, minutes on two CPU cores
  python -m tpr_jax.main --config=configs/cfam.py:ufine6926 --config.data.root=DIR
    the paper's recipe; also :cuhk_pedes, :icfg_pedes, :rstpreid,
    and :folder (pictures and captions of one's own), :archive (ArrayRecord)
  options after the name: variant=L/14 | B/16 | B/32 | tiny, overfit=True

Small towers start from random weights and keep InfoNCE beside every row below;
losses.infonce=0 leaves it out there too.

The ablation, by overrides:
  InfoNCE   --config.losses.infonce=1 --config.losses.sdm=0 --config.losses.sdm_local=0
            --config.losses.matching=0 --config.losses.identity=0
  + L_gs    --config.losses.sdm_local=0 --config.losses.matching=0
            --config.losses.identity=0
  + L_ls    --config.losses.matching=0 --config.losses.identity=0
  + L_m     --config.losses.identity=0
  + L_cid   the default
"""

from ml_collections import ConfigDict

from configs import common

NAMES = (
  "rendered",
  "cuhk_pedes",
  "icfg_pedes",
  "rstpreid",
  "ufine6926",
  "folder",
  "archive",
)


def get_config(arg=None):
  arg = common.parse(arg, NAMES, variant="", overfit=False)
  embedded = arg.name == "rendered"
  variant = arg.variant or ("tiny" if embedded else "B/16")
  tiny = variant == "tiny"

  c = ConfigDict()
  c.name = "cfam"
  c.seed = 0
  c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
  c.shardings = ((".*", "replicate"),)  # first regex that matches; "fsdp" splits

  c.data = common.data(arg.name, size=(96, 40) if tiny else (384, 128))
  # "auto": that of model.init_from, or else CLIP's ("instant"); see data/tokenizer.py
  c.text = ConfigDict(dict(tokenizer="auto", length=168))
  # captions padded to the smallest that holds them; () = all to length
  c.text.buckets = ()
  c.text.short_first = 0  # so many first steps take the shortest bucket alone
  c.text.mask_share = 0.15  # text augmentation: share of the words, and of those:
  c.text.mask_as_mask, c.text.mask_as_random = 0.8, 0.1  # the rest stay as they are

  c.model = common.model(variant)

  c.losses = ConfigDict(
    dict(infonce=0.0, sdm=1.0, sdm_local=1.0, matching=1.0, identity=1.0)
  )
  c.objective = ConfigDict()
  c.objective.temperature = 0.02
  c.objective.learn_temperature = False
  c.objective.soft_labels = False  # SDM: same identity, other image counts 0.3
  c.objective.negatives = "local"  # hard negatives by the "local" or "global" cosine
  c.objective.exclude = "identity"  # negatives never of the same "identity" | "pair"
  c.objective.identity = "fused"  # L_cid: "fused" pairs, or IRRA's "shared" classifier

  # Adam with L2, IRRA's epsilon; pretrained towers 1x, new modules 5x, biases 2x.
  c.optim = ConfigDict(dict(name="adam", lr=1e-5, b1=0.9, b2=0.999, eps=1e-3))
  c.optim.weight_decay = 4e-5
  c.optim.decay = "l2"
  c.optim.clip = 0.0
  c.optim.muon = ""  # regex: matrices that take Muon's update; "": Adam for everything
  c.optim.groups = (("^(?!visual/|text/)", 5.0, 1.0), ("bias$", 2.0, 0.0))
  c.optim.schedule = ConfigDict(
    dict(kind="cosine", per="step", warmup_epochs=5.0, warmup_from=0.1)
  )

  c.train = ConfigDict(dict(epochs=60.0, steps=0))  # steps > 0 wins
  c.train.log_every = 50
  c.train.eval_every = 1.0  # epochs between validations (and checkpoints)
  c.train.select = "R1"  # validation score that picks the checkpoint
  c.train.keep_last = 2
  c.train.keep_best = 1

  c.eval = ConfigDict(dict(batch=128, msd_variant="paper"))
  c.evals = ConfigDict(dict(test=common.evaluation("test")))

  if not embedded:
    c.data.options = common.loader_options(arg.name)
    if arg.name not in ("cuhk_pedes", "rstpreid"):  # the others have no val split
      c.data.val, c.data.val_share = "", 0.05
    if tiny:
      _from_scratch(c)
  else:
    _from_scratch(c)
    _embedded(c)
  if arg.overfit:
    _overfit(c)
  return c


def _from_scratch(c):
  """No pretrained weights: a small vocabulary, larger rates, InfoNCE beside SDM."""
  c.text.tokenizer = "people"
  # From random weights SDM alone, a reverse KL, settles at uniform similarities and
  # stays there; InfoNCE leads out (README, "Training from random weights").
  # The others are weighted to InfoNCE's size: SDM's terms carry a factor of 18.
  c.losses = ConfigDict(
    dict(infonce=1.0, sdm=0.02, sdm_local=0.02, matching=0.1, identity=0.1)
  )
  height, width = c.model.image_size
  c.data.image = f"resize({height},{width})|flip(0.5)|pad_crop(4)|erase(0.3)"
  # Muon learns from scratch in far fewer steps than Adam (README, same section).
  c.optim.lr, c.optim.eps, c.optim.clip, c.optim.muon = 4e-3, 1e-8, 1.0, "kernel$"
  c.optim.weight_decay, c.optim.decay = 0.01, "decoupled"
  c.optim.groups = (("bias$|scale$", 1.0, 0.0),)
  c.data.cache_mb = 1024


def _embedded(c):
  """Rendered people: trained in minutes, tested on identities never seen."""
  c.data.options = common.loader_options("rendered")
  c.data.options.update(
    identities=3000, views=2, granularity=("fine", "fine", "coarse")
  )
  c.data.val_options = ConfigDict(
    dict(identities=100, views=2, granularity=("fine",), pair_noise=0.0)
  )
  height, width = c.model.image_size
  c.data.image = f"resize({height},{width})|pad_crop(4)"
  c.data.batch = 48
  c.text.length = 152  # the longest text of the grammar has 148 tokens
  c.text.mask_share = 0.0  # too few steps to learn through noise
  # Coarse texts cost a third of fine ones and teach the colours and garments first.
  c.text.buckets, c.text.short_first = (40,), 200
  c.objective.temperature = 0.05
  c.train.steps, c.train.eval_every, c.train.log_every = 900, 1.0, 50
  c.optim.schedule.kind, c.optim.schedule.warmup_epochs = "linear", 0.2
  # Other people than those of seed 0: the recipe was chosen on validation people alone.
  # Their pairs are right even where a control trains on wrong ones (pair_noise).
  people = dict(seed=2, identities=200, views=2, pair_noise=0.0)
  c.evals = ConfigDict(
    dict(
      test=common.evaluation(
        "test", **people, granularity=("fine",), group_by="twin_group"
      ),
      test_coarse=common.evaluation(
        "test", **people, granularity=("coarse",), group_by="twin_group"
      ),
      test_shuffled=common.evaluation(
        "test",
        **dict(people, pair_noise=1.0),
        granularity=("fine",),
        note="control: every text is given to another person; must be at chance",
      ),
    )
  )


def _overfit(c):
  """Can the model fit what it sees? No augmentation, no selection, scored on train."""
  c.data.val, c.data.val_share = "", 0.0
  c.data.image, c.text.mask_share = c.data.eval_image, 0.0
  c.train.epochs, c.train.eval_every = 60.0, 10.0
  c.evals.train = common.evaluation("train", note="training pairs: fit, not skill")
