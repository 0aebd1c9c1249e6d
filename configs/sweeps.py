r"""Sweeps: tables of several runs with several seeds, on rendered people.

  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:ablation
    CFAM's losses, one more in every row
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:baselines
    CLIP, IRRA and CFAM
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:granularity
    CFAM trained on fine, medium or coarse texts, asked with each of them
  python -m tpr_jax.main --config=configs/ga_dms.py:rendered,texts=coarse \
    --run=runs/ga_dms-words --config.data.options.word_noise=0 \
    --config.objective.dual.score=none --config.eval.word_scores.captions=0 \
    --config.train.steps=1500 --config.train.eval_every=1
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:ga_dms
    GA-DMS with and without its masks, on captions with wrong words, from the towers of
    the first command
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:mra
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:mra_tuned
    MRA pre-trained with and without its region losses; then fine-tuned on people of
    another camera, from each of these and from nothing
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:kept
    CLIP trained on what the filter keeps of captions, of which 30 % are another's;
    first, with SHARE 90, 70 and 50, and the towers of ga_dms above:
  python -m tpr_jax.main --mode=filter --out=runs/kept-SHARE \
    --config=configs/filter.py:rendered,keep_ratio=0.SHARE \
    --config.scorer.place=runs/ga_dms-words --config.pool.size=1000 \
    --config.data.options.granularity="('coarse',)" --config.data.options.seed=7 \
    --config.data.options.identities=1000 --config.data.options.views=2 \
    --config.data.options.pair_noise=0.3
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:few_weights
    all weights, LoRA, DoRA and WoRA on people of another camera

Every run is a process of its own, in runs/NAME-sweep/ROW-seedS. The same command again
skips what is finished and continues what is not. --config.seeds="(0,1,2,3,4)" adds
seeds to a table; --config.base="('train.steps=300',)" changes every run (and needs
another --run=DIR).

--config.jobs=N starts N runs at once. They get no environment of their own: each sees
every accelerator and every core, and JAX takes most of a GPU's memory unless
XLA_PYTHON_CLIENT_MEM_FRACTION says less. Times of training are comparable with jobs=1.

A sweep of one's own is a file like this one: common.sweep says what a row is.
"""

from configs import common
from configs.cfam import BLOCKS

NAMES = (
  "ablation",
  "baselines",
  "granularity",
  "ga_dms",
  "mra",
  "mra_tuned",
  "kept",
  "few_weights",
)
TEXTS = ("fine", "medium", "coarse")
LOSSES = ("InfoNCE", "+ L_gs", "+ L_ls", "+ L_m", "+ L_cid")
SCORES = ("test/R1", "test/mAP", "test_coarse/R1")
WORDS = "runs/ga_dms-words"


def get_config(arg=None):
  name = common.parse(arg, NAMES).name
  made = dict(ablation=_ablation, baselines=_baselines, granularity=_granularity)
  made.update(ga_dms=_ga_dms, mra=_mra, mra_tuned=_mra_tuned)
  made.update(kept=_kept, few_weights=_few_weights)
  return made[name]()


def _ablation():
  rows = [
    (row, f"configs/cfam.py:rendered,ablation={number}", ())
    for number, row in enumerate(LOSSES)
  ]
  return common.sweep("ablation", rows, SCORES, baseline=LOSSES[0])


def _baselines():
  rows = [
    (row, f"configs/{row.lower()}.py:rendered", ()) for row in ("CLIP", "IRRA", "CFAM")
  ]
  return common.sweep("baselines", rows, SCORES, baseline="CLIP")


def _granularity():
  rows = [
    (f"trained on {text}", f"configs/cfam.py:rendered,texts={text}", ())
    for text in TEXTS
  ]
  scores = [f"test_{text}/R1" for text in (*TEXTS, "mixed")]
  return common.sweep("granularity", rows, scores)


def _ga_dms():
  """Masks by scores against none, on captions with more and more wrong words.

  Every row starts from towers that know right, short captions (WORDS, made by the first
  command above) and goes on with other people: towers from random weights never tell
  wrong words from right ones (README, "Learning from noisy captions").
  """
  base, rows = "configs/ga_dms.py:rendered,texts=coarse", []
  for noise in (0.0, 0.1, 0.3, 0.5):
    for score in ("none", "gass"):
      rows.append((f"{noise:.0%} wrong, {score}", noise, score))
  rows += [(f"30% wrong, {score}", 0.3, score) for score in ("cosine", "random")]
  made = [
    (
      name,
      base,
      (f"data.options.word_noise={noise}", f"objective.dual.score={score}"),
    )
    for name, noise, score in rows
  ]
  every = (
    f"model.init_from={WORDS}",
    "data.options.seed=7",
    "train.steps=150",
    "train.eval_every=1.0",
    "optim.lr=1e-3",
    "eval.saliency=0",
    "eval.ci_resamples=0",
  )
  return common.sweep("ga_dms", made, ("test_coarse/R1", "test_coarse/mAP"), base=every)


# Small enough for six pre-trainings: about 226,000 parameters, pictures of 64 x 32.
_SMALL = (
  "model.image_size=(64,32)",
  "model.patch=4",
  "model.window=4",
  "model.window_last=4",
  "model.vision_width=16",
  "model.vision_depths=(1,2)",
  "model.vision_heads=(2,2)",
  "model.text_positions=64",
  "model.text_width=48",
  "model.text_hidden=96",
  "model.text_heads=4",
  "model.joint_dim=48",
  "data.eval_image=resize(64,32,'bicubic')",
  "data.image=resize(64,32,'bicubic')",
  "data.options.identities=1500",
  "data.options.views=1",
  "eval.ci_resamples=0",
  # Layers that look at images learn three times as fast, or matching is a guess to the
  # end of so few steps. (In the embedded run, whose layers are twice as wide, three
  # times are too fast: README, "Where phrases look".)
  'optim.groups=(("bias$|scale$|/bn/|relative_position",1.0,0.0),'
  '("^text/layer_[23]/|^itm/",3.0,1.0))',
)
_AGAIN = ("test/R1", "test/mAP", "test_coarse/R1", "test.reranked/R1")
_AGAIN += ("test/pointing", "test/energy")


def _mra():
  """Nothing but the losses differs: neither row crops around the boxes."""
  base, regions = "configs/mra.py:rendered_synthetic", "data.views.region=(8,4)"
  rows = [
    ("without regions", f"{base},regions=False", ()),
    ("with regions", base, (regions,)),
  ]
  every = (*_SMALL, "train.steps=600", "train.eval_every=1.0")
  return common.sweep("mra", rows, _AGAIN, base=every, baseline=rows[0][0])


def _mra_tuned():
  base, first = "configs/mra.py:rendered_target", "model.init_from=runs/mra-sweep"
  rows = [
    ("no pre-training", base, ()),
    ("pre-trained without regions", base, (f"{first}/without_regions-seed{{seed}}",)),
    ("pre-trained with regions", base, (f"{first}/with_regions-seed{{seed}}",)),
  ]
  every = (*_SMALL, "data.options.identities=300", "train.steps=150")
  every += ("train.eval_every=4.0", "optim.lr=2e-3")
  return common.sweep("mra_tuned", rows, _AGAIN, base=every, baseline=rows[0][0])


def _kept():
  """The same steps, or the same epochs, on the best of 2,000 pairs, 30 % wrong."""
  base, steps = "configs/clip.py:rendered,texts=coarse", 300
  rows = [
    ("right captions", base, ("data.options.pair_noise=0.0",)),
    ("all", base, ()),
  ]
  for share in (90, 70, 50):
    kept = f"data.filter=runs/kept-{share}"
    rows.append((f"{share} %", base, (kept,)))
    if share <= 70:
      fewer = f"train.steps={steps * share // 100}"
      rows.append((f"{share} %, same epochs", base, (kept, fewer)))
  every = (
    f"train.steps={steps}",
    "train.eval_every=2.0",
    "data.options.identities=1000",
    "data.options.seed=7",
    "data.options.pair_noise=0.3",
    "eval.ci_resamples=0",
  )
  scores = ("test_coarse/R1", "test_coarse/mAP")
  return common.sweep("kept", rows, scores, base=every, baseline="all")


# Few numbers take larger steps than all weights.
_RATES = dict(full="3e-4", lora="1e-3", dora="1e-3", wora="1e-3")


def _few_weights():
  """From towers of one camera (WORDS) to 1,000 people of another, Adam for all rows."""
  base = "configs/clip.py:rendered,texts=coarse"
  rows = []
  for method, rate in _RATES.items():
    rule = repr(((BLOCKS, dict(method=method, rank=8)),))
    adapters = () if method == "full" else (f"model.adapters={rule}",)
    rows.append((method, base, (f"optim.lr={rate}", *adapters)))
  every = (
    f"model.init_from={WORDS}",
    "data.name=rendered_target",
    "data.options.identities=1000",
    "train.steps=200",
    "train.eval_every=0.5",
    "optim.muon=",
    "eval.ci_resamples=0",
  )
  scores = ("test_coarse/R1", "test_coarse/mAP")
  return common.sweep("few_weights", rows, scores, base=every, baseline="full")
