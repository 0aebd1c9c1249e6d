"""A run folder as training and evaluation leave it, with drawn pictures."""

import json
import pathlib

import numpy as np

from tpr_jax import rankings
from tpr_jax.data.record import Dataset, ImageError, Record
from tpr_jax.metrics import distributions, streaming

COLOURS = {
  "black": (30, 30, 34),
  "white": (235, 235, 230),
  "red": (190, 40, 45),
  "blue": (40, 70, 170),
  "green": (50, 125, 70),
  "yellow": (225, 195, 60),
  "grey": (125, 128, 135),
  "pink": (230, 150, 175),
}
_NAMES = list(COLOURS)


class Draw:
  """Pictures of block people: a pure function of the record. Picklable."""

  def __init__(self, broken=()):
    self.broken = set(broken)

  def __call__(self, record, size):
    if record.image in self.broken:
      raise ImageError(f"{record.image}: image file is truncated")
    height, width = size or (96, 40)
    rng = np.random.default_rng([record.identity, int(record.image.split("/")[2])])
    picture = np.full((height, width, 3), rng.integers(120, 210, 3), np.float64)
    truth, part = record.truth, lambda a, b: slice(int(a * height), int(b * height))
    across = slice(int(0.3 * width), int(0.7 * width))
    picture[part(0.06, 0.2), int(0.4 * width) : int(0.6 * width)] = (196, 150, 125)
    picture[part(0.2, 0.54), across] = COLOURS[truth["upper"]]
    picture[part(0.54, 0.92), across] = COLOURS[truth["lower"]]
    picture += rng.normal(0, 6, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def dataset(granularity="fine", identities=24, broken=()):
  """Two pictures and one caption a picture; identities 2 k and 2 k + 1 are twins."""
  records = []
  for identity in range(identities):
    rng = np.random.default_rng([identity // 2, 7])
    upper, lower = (_NAMES[i] for i in rng.choice(len(_NAMES), 2, replace=False))
    if identity % 2:
      lower = _NAMES[(_NAMES.index(lower) + 1) % len(_NAMES)]
    text = f"A person in a {upper} jacket and {lower} trousers."
    if granularity == "fine":
      text += (
        f" The {upper} jacket is worn open over a light shirt with a narrow collar, and"
        f" the {lower} trousers end just above a pair of low shoes with pale soles. In"
        " the right hand there is a small bag with a long strap, and the hair is dark,"
        " short at the sides and parted on the left."
      )
    truth = dict(
      upper=upper, lower=lower, twin_group=identity // 2 if identity < 16 else None
    )
    records += [
      Record(f"test/{identity:06d}/{view}", identity, (text,), "test", "blocks", truth)
      for view in range(2)
    ]
  return Dataset("blocks", "test", tuple(records), Draw(broken))


def write_ranking(folder: pathlib.Path, name, data: Dataset, noise, seed=0):
  """Evaluates noisy features of `data`; writes the npz, returns the entry."""
  rng = np.random.default_rng(seed)
  ids = np.array([record.identity for record in data.records])
  person = rng.standard_normal((ids.max() + 1, 24))
  person[1::2] = person[::2] + 0.5 * person[1::2]  # twins look alike
  look = lambda: person[ids] + noise * rng.standard_normal((len(ids), 24))
  texts, images = look(), look()
  result = streaming.evaluate(texts, images, ids, ids)
  (folder / "rankings").mkdir(exist_ok=True)
  np.savez(
    folder / "rankings" / f"{name}.npz",
    query_record=np.arange(len(ids), dtype=np.int32),
    query_caption=np.zeros(len(ids), np.int32),
    top=result.top,
    score=result.top_score,
    first_rank=result.first_rank,
    ap=result.ap,
    inp=result.inp,
    sd=result.sd,
    identity=ids,
    gallery_identity=ids,
    query_digest=rankings.digests(text for r in data.records for text in r.captions),
    gallery_digest=rankings.digests(record.image for record in data.records),
    **distributions.count(texts, images, ids, ids).arrays(),
  )
  twin = np.array([r.truth["twin_group"] is not None for r in data.records])
  return dict(
    t2i=result.summary(),
    groups={
      "near twins": result.subset(twin).summary(),
      "others": result.subset(~twin).summary(),
    },
    note="",
    broken_images=0,
  )


def make(folder: pathlib.Path) -> dict[str, Dataset]:
  """Writes every file of a run into `folder`; returns the datasets by evaluation."""
  folder.mkdir(parents=True, exist_ok=True)
  data = dict(fine=dataset("fine"), coarse=dataset("coarse"))
  evals = dict(
    fine=write_ranking(folder, "fine", data["fine"], 0.6),
    coarse=write_ranking(folder, "coarse", data["coarse"], 1.4),
  )
  evals["fine"]["i2t"] = evals["coarse"]["t2i"]
  results = dict(selected_step=480, selection="best validation R1 (57.50)", evals=evals)
  write_json(folder / "results.json", results)
  config = dict(
    name="cfam",
    seed=0,
    data=dict(name="rendered", batch=128, image="resize(96,40)|pad_crop(4)|erase(0.3)"),
    losses=dict(infonce=0.0, sdm=1.0, sdm_local=1.0, matching=1.0, identity=1.0),
    optim=dict(name="adam", lr=1e-3, schedule=dict(kind="cosine")),
    evals=dict(fine=dict(split="test"), coarse={}),
  )
  write_json(folder / "config.json", config)
  run = dict(
    command="python -m tpr_jax.main --config=configs/cfam.py",
    seed=0,
    versions=dict(python="3.11.9", jax="0.10.2", flax="0.12.8"),
    devices=["cpu:cpu", "cpu:cpu"],
    parameters=1_534_210,
    num_classes=3000,
    started="2026-11-21T08:00:00Z",
    finished="2026-11-21T08:04:12Z",
    seconds=dict(train=201.4, evaluate=12.25),
  )
  write_json(folder / "run.json", run)
  (folder / "metrics.jsonl").write_text("".join(_log()))
  return data


def _log():
  rng = np.random.default_rng(3)
  for step in range(10, 601, 10):
    fall = np.exp(-step / 200)
    terms = dict(
      sdm=3.1 * fall + 0.3, sdm_local=3.4 * fall + 0.5, matching=0.69 * fall + 0.1,
      identity=8.0 * fall + 0.4,
    )  # fmt: skip
    terms = {key: value * rng.uniform(0.95, 1.05) for key, value in terms.items()}
    rate = 1e-3 * min(step / 40, 1) * (0.5 + 0.5 * np.cos(np.pi * step / 600))
    yield json.dumps(
      dict(step=step, kind="train", **terms, loss=sum(terms.values()), lr=rate,
           grad_norm=1.3, examples_per_second=640.0)
    ) + "\n"  # fmt: skip
    if step % 60 == 0:
      score = 60 * (1 - fall)
      yield json.dumps(
        dict(step=step, kind="val", R1=score, R5=score * 1.3, R10=score * 1.45,
             mAP=score * 0.9, mINP=score * 0.6, mSD=score * 0.7, queries=200)
      ) + "\n"  # fmt: skip


def write_json(path: pathlib.Path, value):
  path.write_text(json.dumps(value))
