"""What adapters cost and save a step of training, in time and in memory.

  python -m tests.benchmarks.adapters [--rounds=7] [--size=tiny | B/16] [--batch=N]
    [--rank=8]

Steps of CLIP's towers with InfoNCE: all weights training, and the four maps of each
block frozen beside LoRA, DoRA and WoRA; in turn within one process. Medians, and the
median and range of the ratio to the first over the rounds, of the time that passed and
of the processor's time. Adam for all ("optim.muon" off). "tiny" is the embedded run's
step (48 rows of 40 tokens), "B/16" that of CUHK-PEDES (384 x 128, 77 tokens); weights
are random. "state" is parameters and optimizer; "temporary" is XLA's own account of the
compiled step.
"""

from configs import cfam, clip
from tests.benchmarks import steps

METHODS = ("full", "lora", "dora", "wora")


def config(size: str, method: str, rank: int):
  tiny = size == "tiny"
  name = "rendered,texts=coarse" if tiny else f"cuhk_pedes,variant={size}"
  c = clip.get_config(name)
  c.text.length = 40 if tiny else 77
  c.optim.muon = ""
  c.model.init_random = True
  if method != "full":
    c.model.adapters = ((cfam.BLOCKS, dict(method=method, rank=rank)),)
  return c


if __name__ == "__main__":
  steps.main(__doc__, METHODS, config, extra=dict(rank=8))
