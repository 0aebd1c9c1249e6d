"""What train.micro_batches and model.remat save: XLA's own account of a training step.

  python -m tests.benchmarks.memory                    all cases: some 20 minutes
  python -m tests.benchmarks.memory 64/1 64/4/remat    batch/micro_batches[/remat]
  python -m tests.benchmarks.memory --dtype=bfloat16

The step is that of configs/cfam.py:cuhk_pedes (B/16, 384 x 128, 168 tokens, 11,003
identities), compiled from shapes: nothing is allocated and nothing runs. "temporary" is
`temp_size_in_bytes` of `memory_analysis()`: the activations and gradients that live
within one step; "ratio" is to the first case of the same batch. "state" is what the
step is given, parameters and Adam's moments. All are of the backend that compiles: on a
CPU in float32 they are no measurement of a GPU.
"""

import argparse
import pathlib
import time

import jax

from configs import cfam
from tpr_jax import experiment, program, training
from tpr_jax.data.record import Dataset, Record

IDENTITIES = 11_003  # of CUHK-PEDES' training split
CASES = (
  *(f"64/{count}" for count in (1, 2, 4, 8, 16)),
  *(f"64/{count}/remat" for count in (1, 2, 4, 8, 16)),
  *(f"{batch}/1" for batch in (16, 32, 128)),
)
GIB = 2**30


class WithoutPictures(experiment.Experiment):
  """The experiment of a config on people that are names alone; it says nothing."""

  def training_data(self):
    records = tuple(
      Record(f"{i}.jpg", i, ("a person",), "train") for i in range(IDENTITIES)
    )
    return Dataset("cuhk_pedes", "train", records, _no_picture), None

  def say(self, text):
    pass


def _no_picture(record, size):
  raise RuntimeError(f"{record.image}: a compiled step needs no pictures")


def parse(case: str) -> tuple[int, int, bool]:
  """64/4/remat -> (batch, micro_batches, remat).

  Raises:
    argparse.ArgumentTypeError: anything else.
  """
  batch, _, rest = case.partition("/")
  count, _, remat = rest.partition("/")
  if not (batch.isdecimal() and count.isdecimal() and remat in ("", "remat")):
    raise argparse.ArgumentTypeError(
      f"{case!r}: expected BATCH/MICRO_BATCHES or BATCH/MICRO_BATCHES/remat,"
      " for example 64/4/remat"
    )
  return int(batch), int(count), bool(remat)


def analysis(batch: int, micro_batches: int, remat: bool, dtype: str):
  """`memory_analysis()` of the compiled training step."""
  config = cfam.get_config("cuhk_pedes")
  config.data.batch, config.train.micro_batches = batch, micro_batches
  config.model.remat, config.model.dtype = remat, dtype
  parts = training.Training(WithoutPictures(config.lock(), pathlib.Path("unused")))
  shapes = program.batch_shapes(parts.config, parts.experiment.mesh)[0]
  lowered = parts.train_step.lower(parts.plan.shapes, shapes, jax.random.key(0))
  return lowered.compile().memory_analysis()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("cases", nargs="*", type=parse, metavar="BATCH/MICRO[/remat]")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  options = parser.parse_args()
  cases = options.cases or [parse(case) for case in CASES]
  print(f"{jax.devices()[0].platform}, jax {jax.__version__}, {options.dtype}; GiB")
  print(f"{'batch':>5} {'micro_batches':>13} {'remat':>5} {'temporary':>9}", end="")
  print(f" {'state':>6} {'ratio':>6} {'compiled in':>11}", flush=True)
  first = {}  # temporary memory of a batch's first case: what its others are divided by
  for batch, count, remat in cases:
    started = time.time()
    found = analysis(batch, count, remat, options.dtype)
    jax.clear_caches()
    temporary = found.temp_size_in_bytes
    ratio = temporary / first.setdefault(batch, temporary)
    print(
      f"{batch:5} {count:13} {'yes' if remat else 'no':>5} {temporary / GIB:9.2f}"
      f" {found.argument_size_in_bytes / GIB:6.2f} {ratio:6.2f}"
      f" {time.time() - started:9.0f} s",
      flush=True,
    )


if __name__ == "__main__":
  main()
