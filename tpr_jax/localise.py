"""Does a phrase look where its box is? Asked of some regions of an evaluation.

Swin + BERT that was trained with regions should, of a phrase and its own picture, look
at the box that the phrase is about. A record's regions (data/regions.py) say where that
is, the cross-attention of the fusion layers where it looks (models/cross_maps.py), and
metrics/localisation.py compares the two. Beside every score stand what chance gives and
two more rows: the same boxes under the map of another phrase of the same picture (does
the phrase steer, or does the model look at the person whatever it reads?), and a map
that is the box itself, as well as the cells can say it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from tpr_jax.core import compiling, processes, sharding
from tpr_jax.core.types import Params
from tpr_jax.data import regions
from tpr_jax.data.examples import load_picture
from tpr_jax.data.record import Dataset, DatasetError, ImageError
from tpr_jax.data.tokenizer import Tokenizer
from tpr_jax.data.transforms import Pipe
from tpr_jax.localise_files import Looks, write
from tpr_jax.metrics import localisation, uncertainty
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.models import cross_maps, swin

# Attention alone is spread almost evenly, before and after training (README).
BY = "cls*gradient"
_CHOICE = 0x10CA1  # stream of random numbers


class Asked(NamedTuple):
  """How it is asked, of `config.eval`: `localise` phrases, `localise_by`."""

  count: int
  by: str


def settings(how: Mapping[str, Any], model: Any) -> Asked | None:
  """What `config.eval` asks of the model; None: nothing.

  Raises:
    ValueError: no number of phrases, or a model that cannot be asked so.
  """
  count = how.get("localise", 0)
  if not isinstance(count, int) or isinstance(count, bool) or count < 0:
    raise ValueError(
      f"eval.localise={count!r}: expected a number of phrases, or 0 for none"
    )
  if not count:
    return None
  asked = Asked(count, how.get("localise_by", BY))
  try:
    cross_maps.check(model, asked.by)
  except ValueError as error:
    raise ValueError(f"eval.localise={count}, localise_by: {error}") from error
  return asked


def has_regions(dataset: Dataset) -> bool:
  """Whether any record has one; DatasetError where they have another form."""
  return any(regions.of(record) for record in dataset.records)


class Pairs(NamedTuple):
  """Phrases to be asked; n of them, by record. As the attributes of `Looks`.

  text, other_text: int32 [n, L]; the latter has the own phrase where there is no other.
  """

  record: np.ndarray
  region: np.ndarray
  phrase: np.ndarray
  kind: np.ndarray
  box: np.ndarray
  other: np.ndarray
  text: np.ndarray
  other_text: np.ndarray


def choose(
  dataset: Dataset, count: int, tokenizer: Tokenizer, length: int, seed: int = 0
) -> Pairs:
  """Draws `count` regions (or all, if there are fewer), and another of each one's
  record whose phrase differs.

  Phrases without words and boxes outside of the picture are left out.

  Raises:
    DatasetError: nothing is left.
  """
  rng = np.random.default_rng([seed, _CHOICE])
  of = [regions.of(record) for record in dataset.records]
  every = [(at, i) for at, listed in enumerate(of) for i in range(len(listed))]
  rows = []
  for place in rng.permutation(len(every)):
    if len(rows) == count:
      break
    at, i = every[place]
    one = of[at][i]
    if not _usable(one, tokenizer, length):
      continue
    others = [
      k
      for k, each in enumerate(of[at])
      if each.phrase != one.phrase and _usable(each, tokenizer, length)
    ]
    rows.append((at, i, others[int(rng.integers(len(others)))] if others else -1))
  if not rows:
    raise DatasetError(
      f"{dataset.name}/{dataset.split}: none of its {len(every):,} regions has a box in"
      " the picture and a phrase with words; set --config.eval.localise=0"
    )
  rows.sort()
  chosen = [of[at][i] for at, i, _ in rows]
  beside = [of[at][k if k >= 0 else i].phrase for at, i, k in rows]
  record, region, other = np.array(rows, np.int32).T
  return Pairs(
    record=record,
    region=region,
    phrase=np.array([one.phrase for one in chosen]),
    kind=np.array([one.kind for one in chosen]),
    box=np.array([one.box for one in chosen], np.float64),
    other=other,
    text=tokenizer.encode([one.phrase for one in chosen], length)[0],
    other_text=tokenizer.encode(beside, length)[0],
  )


def _usable(one: regions.Region, tokenizer: Tokenizer, length: int) -> bool:
  """Some of the box is in the picture, and the phrase has words."""
  cx, cy, w, h = one.box
  across = min(cx + w / 2, 1.0) - max(cx - w / 2, 0.0)
  down = min(cy + h / 2, 1.0) - max(cy - h / 2, 0.0)
  if min(across, down) <= 0:
    return False
  return tokenizer.encode([one.phrase], length)[1][0] > 2


class Looker:
  """A model's maps, compiled once for batches of one shape.

  Args:
    model: that passes `cross_maps.check`.
    mesh: batches are split over it; all processes call everything, and together.
  """

  def __init__(self, model: Any, mesh: Mesh, by: str = BY):
    cross_maps.check(model, by)
    self._by, self._batch_sh = by, sharding.batch_sharding(mesh)
    self._layers = np.arange(model.text.fusion_layer, model.text.layers, dtype=np.int32)
    visual = model.visual
    self._size = tuple(visual.image_size)
    self._grid = swin.grids(self._size, visual.patch, len(visual.depths))[-1]

    def run(params, image, text):
      return cross_maps.maps(model, params, image, text, by)

    whole, told = sharding.replicated(mesh), compiling.options(mesh)
    self._run = jax.jit(run, out_shardings=whole, compiler_options=told)

  def __call__(
    self, params: Params, dataset: Dataset, pairs: Pairs, *, pipe: Pipe, batch: int
  ) -> Looks:
    """Asks each phrase, and its other one, of its picture.

    Args:
      pipe: deterministic, and nothing in it may move a box (as resize does not: boxes
        are shares of the picture).
      batch: pairs at a time, a multiple of the devices that split them.

    Raises:
      DatasetError: none of the pictures can be read.
    """
    kept, found, beside = [], [], []
    for rows, image in _batches(dataset, pairs.record, pipe, batch):
      texts = [
        sharding.put(_filled(x[rows], batch), self._batch_sh)
        for x in (pairs.text, pairs.other_text)
      ]
      image = sharding.put(_filled(image, batch), self._batch_sh)
      one, other = jax.device_get([self._run(params, image, text) for text in texts])
      kept.append(rows)
      found.append(one[: len(rows)])
      beside.append(other[: len(rows)].mean(axis=1))
    if not kept:
      raise DatasetError(
        f"{dataset.name}/{dataset.split}: no picture with regions can be read; set"
        " --config.eval.localise=0"
      )
    rows = np.concatenate(kept)
    other = pairs.other[rows]
    return Looks(
      by=self._by,
      grid=self._grid,
      size=self._size,
      layers=self._layers,
      maps=np.concatenate(found),
      other_map=np.concatenate(beside) * (other >= 0)[:, None],
      broken=len(pairs.record) - len(rows),
      **{
        name: getattr(pairs, name)[rows]
        for name in ("record", "region", "phrase", "kind", "box", "other")
      },
    )


def _batches(
  dataset: Dataset, record: np.ndarray, pipe: Pipe, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(rows [m], their pictures [m, H, W, 3]), m <= batch; unreadable ones left out."""
  rows, images, last = [], [], (-1, None)
  for row, at in enumerate(record.tolist()):
    if last[0] != at:
      try:
        last = at, load_picture(dataset, at, pipe, pipe.size, None)
      except ImageError:  # the evaluation has listed it
        last = at, None
    if last[1] is not None:
      rows.append(row)
      images.append(last[1])
    if rows and (len(rows) == batch or row == len(record) - 1):
      yield np.array(rows), np.stack(images)
      rows, images = [], []


def _filled(x: np.ndarray, batch: int) -> np.ndarray:
  return np.concatenate([x, np.repeat(x[:1], batch - len(x), axis=0)])


def summary(
  looks: Looks, dataset: Dataset, how: Bootstrap | None = None
) -> dict[str, Any]:
  """What results.json has under "localise" of an evaluation: plain JSON values.

  {"by", "phrases", "pictures", "broken", "grid", "layers", "rows": [...], "ci": {...}?}
  Each row has "name", "kind" ("all", "region", "layer" or "control"), "phrases", the
  scores (localisation.SCORES, percentages but for the ratio) of the mean map of all
  layers, or of the layer, "chance", that of pointing, and, where intervals are asked
  for and there are two people, "ci": {score: [low, high]}, identities drawn.
  """
  ids = np.array([dataset.records[at].identity for at in looks.record], np.int64)
  own, grid = looks.mean, looks.grid
  whole = np.ones(len(ids), bool)
  beside = looks.other >= 0

  def row(name, kind, maps, chosen=whole):
    boxes = looks.box[chosen]
    values = localisation.measure(maps[chosen], boxes, grid)
    even = localisation.chance(boxes, grid)["pointing"]
    found = dict(name=name, kind=kind, phrases=int(chosen.sum()))
    found |= localisation.average(values) | dict(chance=100.0 * float(even.mean()))
    if how is not None and len(np.unique(ids[chosen])) > 1:
      found["ci"] = _intervals(values, ids[chosen], how)
    return found

  rows = [row("all", "all", own)]
  for kind in sorted(set(looks.kind.tolist()) - {""}):
    rows.append(row(kind, "region", own, looks.kind == kind))
  for place, layer in enumerate(looks.layers.tolist()):
    rows.append(row(f"layer {layer}", "layer", looks.maps[:, place]))
  if beside.any():
    rows.append(row("another phrase's map", "control", looks.other_map, beside))
  rows.append(row("same everywhere", "control", np.ones_like(own)))
  best = localisation.coverage(looks.box, grid)
  rows.append(row("the box itself", "control", best))
  return dict(
    by=looks.by,
    phrases=len(ids),
    pictures=len(np.unique(looks.record)),
    broken=looks.broken,
    grid=list(grid),
    layers=looks.layers.tolist(),
    rows=rows,
    **({"ci": dataclasses.asdict(how)} if how else {}),
  )


def _intervals(
  values: Mapping[str, np.ndarray], ids: np.ndarray, how: Bootstrap
) -> dict[str, list[float]]:
  columns = np.stack([values[name] for name in localisation.SCORES], axis=1)
  scale = np.array([1.0 if name == "ratio" else 100.0 for name in localisation.SCORES])
  ends = (uncertainty.interval(columns, ids, how) * scale).T
  return dict(zip(localisation.SCORES, ends.tolist(), strict=True))


def keep(folder: pathlib.Path | None, name: str, looks: Looks | None) -> None:
  """localise/NAME.npz, in the place of an earlier evaluation's; None: nowhere, none.

  One of several processes writes; no other goes on before it has.
  """
  with processes.together():
    if folder is None:
      return
    path = folder / "localise" / f"{name}.npz"
    path.unlink(missing_ok=True)
    if looks is not None:
      write(path, looks)
