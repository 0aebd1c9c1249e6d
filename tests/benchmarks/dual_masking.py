"""What GA-DMS's masks cost a step of training, in time and in memory.

  python -m tests.benchmarks.dual_masking [--rounds=7] [--size=tiny | B/16] [--batch=N]

Steps with masks by each kind of score against the same losses without (SDM and masked
words: two text passes and an image pass), in turn within one process; medians, and the
median and range of the ratio over the rounds, of the time that passed and of the
processor's time. "tiny" is the embedded run's step (48 rows of 152 tokens), "B/16" that
of pre-training (384 x 128, 77 tokens) on random weights. Temporary memory is XLA's own
account of the compiled step.
"""

from configs import ga_dms
from tests.benchmarks import steps

KINDS = ("none", "gass", "cosine", "random")


def config(size: str, kind: str):
  c = ga_dms.get_config("rendered" if size == "tiny" else f"mals,variant={size}")
  c.objective.dual.score = kind
  return c


if __name__ == "__main__":
  steps.main(__doc__, KINDS, config)
