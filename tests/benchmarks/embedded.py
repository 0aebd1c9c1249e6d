"""The training step of the embedded run on random numbers, for benchmarks of it."""

from configs import cfam
from tests.benchmarks import steps


def runner(micro_batches: int = 1) -> steps.Runner:
  """configs/cfam.py (48 rows of 152 tokens), all texts of full length."""
  config = cfam.get_config()
  config.train.micro_batches = micro_batches
  rows, length = config.data.batch, config.text.length
  longest = steps.random_rows(
    rows, length, config.model.image_size, steps.words_of(config), least=length
  )
  return steps.Runner(config, rows, rows=longest, classes=100)
