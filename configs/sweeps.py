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

NAMES = ("ablation", "baselines", "granularity", "ga_dms")
TEXTS = ("fine", "medium", "coarse")
LOSSES = ("InfoNCE", "+ L_gs", "+ L_ls", "+ L_m", "+ L_cid")
SCORES = ("test/R1", "test/mAP", "test_coarse/R1")
WORDS = "runs/ga_dms-words"


def get_config(arg=None):
  name = common.parse(arg, NAMES).name
  made = dict(ablation=_ablation, baselines=_baselines, granularity=_granularity)
  return dict(made, ga_dms=_ga_dms)[name]()


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
