"""What several processes do together in an evaluation, without a run: a program.

Each process writes FOLDER/worker{index}.json. `work` is the same in one process.
"""

import argparse
import functools
import hashlib
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from tests import tiny
from tests.data import noise
from tpr_jax.core import processes, sharding
from tpr_jax.data import tokenizer, transforms
from tpr_jax.data.record import DatasetError
from tpr_jax.encoding import Encoder, EvaluationError
from tpr_jax.metrics import streaming
from tpr_jax.models import build

BATCH, RECORDS = 8, 21
# With 2 processes of 4 rows each, the second one meets 5 and 13, the first one 18.
BROKEN = (5, 13, 18)


class Counted:
  """noise.Pictures that notes which records were asked for."""

  def __init__(self, broken):
    self._load, self.asked = noise.Pictures(tuple(broken)), []

  def __call__(self, record, size):
    self.asked.append(int(record.image.removesuffix(".png")))
    return self._load(record, size)


class Words:
  """A tokenizer that notes how many captions it was given; padding is none."""

  def __init__(self):
    self._inner, self.given = tokenizer.build("people"), 0
    self.vocab_size, self.end_id = self._inner.vocab_size, self._inner.end_id

  def encode(self, texts, length):
    self.given += sum(bool(text) for text in texts)
    return self._inner.encode(texts, length)


def digest(*arrays) -> str:
  found = hashlib.sha256()
  for array in arrays:
    array = np.ascontiguousarray(array)
    found.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
  return found.hexdigest()


@functools.cache
def _towers(mesh):
  words = tokenizer.build("people")
  module = build.build(tiny.FIELDS, vocab_size=words.vocab_size)
  image = jnp.zeros((1, *tiny.SIZE, 3), jnp.uint8)
  text = jnp.full((1, tiny.LENGTH), words.end_id, jnp.int32)
  params = jax.device_get(jax.jit(module.init)(jax.random.key(0), image, text))
  whole = sharding.replicated(mesh)
  return Encoder(module, mesh), sharding.put(params["params"], whole)


def encoded(mesh, broken=BROKEN, records=RECORDS) -> dict:
  """A split through the towers over this mesh -> what came of it, and what was read."""
  words, load = Words(), Counted(broken)
  encoder, params = _towers(mesh)
  found = encoder(
    params,
    noise.dataset(records, load=load),
    tokenizer=words,
    pipe=transforms.build("resize(32,16)"),
    length=tiny.LENGTH,
    batch=BATCH,
    threads=1,
  )
  return dict(
    features=[found.image.tolist(), found.text.tolist()],
    digest=digest(found.image, found.text),
    records=[found.image_record.tolist(), found.text_record.tolist()],
    captions=found.text_caption.tolist(),
    broken=list(found.broken.items()),
    asked=sorted(load.asked),
    given=words.given,
  )


def work(mesh) -> dict:
  """Encodes a split with broken pictures and ranks made features -> plain JSON."""
  pictures = np.random.default_rng(0).integers(0, 256, (11, *tiny.SIZE, 3), np.uint8)
  found = encoded(mesh)
  encoder, params = _towers(mesh)
  try:
    found["nothing"] = encoded(mesh, range(3), 3)
  except EvaluationError as error:
    found["nothing"] = str(error)
  found["arrays"] = digest(encoder.images(params, pictures, BATCH))
  found["ranked"] = {str(split): _ranked(mesh, split) for split in (False, True)}
  return found


def _ranked(mesh, split) -> dict:
  rng = np.random.default_rng(1)
  query, gallery = (rng.normal(size=(n, 16)).astype(np.float32) for n in (37, 150))
  ids = rng.integers(0, 40, 37), rng.integers(0, 40, 150)
  found = streaming.evaluate(query, gallery, *ids, mesh=mesh, split_gallery=split)
  return dict(
    exact=digest(found.matches, found.first_rank, found.top),
    ap=found.ap.tolist(),
    sd=found.sd.tolist(),
    scores=found.top_score.tolist(),
  )


def _together(index: int) -> str:
  """What each process hears of an error that only the second meets."""
  try:
    with processes.together():
      if index == 1:
        raise DatasetError("no folder /data here")
  except (DatasetError, processes.PeerError) as error:
    return f"{type(error).__name__}: {error}"
  return "nothing"


def main() -> None:
  flags = argparse.ArgumentParser()
  flags.add_argument("--out", type=pathlib.Path)
  flags.add_argument("--coordinator")
  for name in ("processes", "process", "peer_timeout"):
    flags.add_argument(f"--{name}", type=int)
  given = flags.parse_args()
  processes.join(
    given.coordinator, given.processes, given.process, timeout=given.peer_timeout
  )
  found = work(sharding.make_mesh({"data": -1}))
  found["together"] = _together(given.process)
  # One device of each process in turn.
  devices = [jax.devices()[i] for i in (0, 2, 1, 3)]
  found["crossed"] = encoded(sharding.make_mesh({"data": -1}, devices))
  # Only parameters are split between the processes: both read the same rows.
  sizes = {"data": 2, "tensor": 2}
  found["tensor"] = encoded(sharding.make_mesh(sizes, devices))
  processes.leave()
  if given.process == 0:
    time.sleep(3)  # the other one ends long before
  found["ended"] = time.time()
  (given.out / f"worker{given.process}.json").write_text(json.dumps(found))


if __name__ == "__main__":
  main()
