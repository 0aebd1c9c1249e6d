r"""Sweeps: tables of several runs with several seeds, on rendered people.

  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:ablation
    CFAM's losses, one more in every row
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:baselines
    CLIP, IRRA and CFAM
  python -m tpr_jax.main --mode=sweep --config=configs/sweeps.py:granularity
    CFAM trained on fine, medium or coarse texts, asked with each of them

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

NAMES = ("ablation", "baselines", "granularity")
TEXTS = ("fine", "medium", "coarse")
LOSSES = ("InfoNCE", "+ L_gs", "+ L_ls", "+ L_m", "+ L_cid")
SCORES = ("test/R1", "test/mAP", "test_coarse/R1")


def get_config(arg=None):
  name = common.parse(arg, NAMES).name
  return dict(ablation=_ablation, baselines=_baselines, granularity=_granularity)[
    name
  ]()


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
