"""`--mode=report` of a filter's folder: what was cut, on one page, from the manifest.

Where the data knows which pairs are wrong (rendered people with options.pair_noise),
also how many of those a cut finds, beside a cut by the similarity alone and by chance.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tpr_jax import config as configs
from tpr_jax import rankings
from tpr_jax.data import build, kept
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import Dataset, DatasetError, ImageError
from tpr_jax.filter import manifest
from tpr_jax.filter.cut import Scored
from tpr_jax.report import drawing, pages
from tpr_jax.report.drawing import Figure
from tpr_jax.report.queries import Picture, Pictures

PAGE = "filter.html"
SHOWN = 12  # pairs of each kind
RATIOS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # kept


@dataclasses.dataclass(frozen=True)
class Shown:
  """One pair: its picture and caption, its numbers, and what became of it.

  wrong: whether the data knows that they do not belong together; None: it doesn't know.
  """

  picture: Picture
  text: str
  s0: str
  c: str
  kept: bool
  wrong: bool | None


def write(folder: pathlib.Path, *, seed: int = 0) -> pathlib.Path:
  """Writes filter.html to a filter's folder.

  Args:
    seed: draws the pairs that are shown at random.

  Raises:
    DatasetError: no whole manifest is there.
  """
  judged = kept.read(folder)
  header, keep = judged.header, judged.keep
  about = header["data"]
  name = f"{about['name']}/{about['split']}"
  lines = manifest.of_manifest(folder / kept.MANIFEST)
  scored, _ = manifest.scored(lines, len(keep), Damage(name, about["records"]))
  data, why = _data(folder, header)
  wrong = None if data is None else wrong_pairs(data)
  size = header["pool"]["size"]
  sections, broken = _sections(scored, keep, data, wrong, seed)
  pages.write(
    folder / PAGE,
    PAGE,
    name=name,
    facts=_facts(header),
    figures=figures(scored, keep, size, header["k"], wrong),
    head=_head(wrong),
    rows=rows(scored, wrong),
    wrong=None if wrong is None else int(wrong[scored.real].sum()),
    scored=int(scored.real.sum()),
    sections=sections,
    why=why,
    broken=broken,
    seed=seed,
  )
  return folder / PAGE


def _data(folder: pathlib.Path, header: Mapping[str, Any]):
  """(the split that was judged, "") or (None, why it cannot be shown)."""
  asked = configs.read_json(folder / "config.json").get("data")
  if not asked:
    return None, "config.json, which says where the data is, is not in the folder"
  try:
    found = build.dataset(
      asked["name"], asked["root"], asked["split"], asked["options"]
    )
  except DatasetError as error:
    return None, str(error)
  if kept.listing(found).digest != header["data"]["digest"]:
    return None, "the data that config.json names has changed since it was filtered"
  return found, ""


def wrong_pairs(data: Dataset) -> np.ndarray | None:
  """bool [n]: which pairs are known to be wrong; None: the data does not know."""
  if data.stream is not None or "pair_noise" not in data.records[0].truth:
    return None
  return np.array(
    [bool(r.truth.get("pair_noise")) for r in data.records for _ in r.captions], bool
  )


# --- numbers ----------------------------------------------------------------------


def found_at(order: np.ndarray, wrong: np.ndarray, ratio: float) -> tuple[float, float]:
  """(precision, recall) of what a cut drops, as a finder of wrong pairs.

  Args:
    order: int [m], the pairs, best first. ratio: the share of them that is kept.
  """
  dropped = wrong[order[round(ratio * len(order)) :]]
  total = int(wrong[order].sum())
  hits = int(dropped.sum())
  return hits / max(len(dropped), 1), hits / max(total, 1)


def by_similarity(scored: Scored) -> np.ndarray:
  """int [m]: the scored pairs by s_0 alone, the most similar first."""
  at = np.flatnonzero(scored.real)
  return at[np.argsort(-scored.s0[at], kind="stable")]


def _head(wrong: np.ndarray | None) -> list[str]:
  head = ["kept", "pairs", "k"]
  if wrong is not None:
    head += [f"{what}, {by}" for by in ("rank", "s0", "chance") for what in _FOUND]
  return head


_FOUND = ("precision", "recall")


def rows(scored: Scored, wrong: np.ndarray | None) -> list[list[str]]:
  """A line for each ratio: cells as they are printed."""
  order, plain = scored.order(), by_similarity(scored)
  made = []
  for ratio in RATIOS:
    count = round(ratio * len(order))
    k = int(scored.c[order[count - 1]]) + 1 if count else 0
    cells = [f"{100 * ratio:g} %", f"{count:,}", f"{k:,}"]
    if wrong is not None:
      share = float(wrong[order].mean())
      found = [found_at(order, wrong, ratio), found_at(plain, wrong, ratio)]
      found.append((share, 1 - ratio))
      cells += [f"{100 * value:.1f}" for pair in found for value in pair]
    made.append(cells)
  return made


# --- figures ----------------------------------------------------------------------


def figures(
  scored: Scored, keep: np.ndarray, pool: int, k: int | None, wrong: np.ndarray | None
) -> list[Figure]:
  """The distribution of c, the share kept by k, and what a cut finds."""
  made = [_distribution(scored, keep, pool), _share(scored, pool, k)]
  if wrong is not None and 0 < wrong[scored.real].mean() < 1:
    made.append(_found(scored, wrong))
  return made


def _edges(pool: int) -> np.ndarray:
  """0, 1, 2, 3, ... and then ever wider bins, up to the pool."""
  edges = np.unique(np.round(np.geomspace(1, pool + 1, 40)).astype(int))
  return np.concatenate([[0], edges])


def _distribution(scored: Scored, keep: np.ndarray, pool: int) -> Figure:
  edges, real = _edges(pool), scored.real
  counted = [np.histogram(scored.c[m], edges)[0] for m in (real & keep, real & ~keep)]

  def paint(axes: Any, theme: Mapping[str, Any]) -> None:
    at, bottom = np.arange(len(edges) - 1), 0
    for number, label in enumerate(("kept", "dropped")):
      colour = theme["lines"][number]
      axes.bar(at, counted[number], 0.86, bottom=bottom, color=colour, label=label)
      bottom = bottom + counted[number]
    ticks = np.linspace(0, len(at) - 1, min(7, len(at))).astype(int)
    axes.set_xticks(ticks, [f"{edges[i]:,}" for i in ticks])
    drawing.label_x(axes, theme, "c: captions of the pool that fit at least as well")
    drawing.legend(axes, theme)

  return drawing.figure(
    "distribution",
    "How many random captions fit as well",
    paint,
    caption="Pairs by c. Bins grow with c; a tick says where its bin begins.",
  )


def _share(scored: Scored, pool: int, k: int | None) -> Figure:
  ks = np.unique(np.round(np.geomspace(1, pool + 1, 200)).astype(int))
  ordered = np.sort(scored.c[scored.real])
  share = 100 * np.searchsorted(ordered, ks, side="left") / max(len(ordered), 1)

  def paint(axes: Any, theme: Mapping[str, Any]) -> None:
    axes.step(ks, share, where="post", color=theme["lines"][0], linewidth=1.8)
    if k is not None:
      axes.axvline(k, color=theme["lines"][1], linewidth=1.2, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(0, 103)
    drawing.plain(axes.xaxis)
    drawing.percent(axes.yaxis)
    drawing.label_x(axes, theme, "k")

  dashed = "" if k is None else f" Dashed: k = {k:,}, where it was cut."
  return drawing.figure(
    "share", "Share of the pairs that k keeps", paint, caption=f"c < k.{dashed}"
  )


def _found(scored: Scored, wrong: np.ndarray) -> Figure:
  orders = {"rank c": scored.order(), "similarity s0 alone": by_similarity(scored)}
  total = len(orders["rank c"])
  dropped = np.arange(1, total + 1)
  base = float(wrong[scored.real].mean())

  def paint(every: Sequence[Any], theme: Mapping[str, Any]) -> None:
    for number, (label, order) in enumerate(orders.items()):
      hits = np.cumsum(wrong[order[::-1]])
      style = dict(color=theme["lines"][number], linewidth=1.8, label=label)
      every[0].plot(100 * dropped / total, 100 * hits / dropped, **style)
      every[1].plot(100 * dropped / total, 100 * hits / hits[-1], **style)
    chance = dict(color=theme["soft"], linewidth=1.2, linestyle="--", label="chance")
    every[0].plot([0, 100], [100 * base] * 2, **chance)
    every[1].plot([0, 100], [0, 100], **chance)
    for axes, label in zip(every, ("precision", "recall"), strict=True):
      axes.set_ylabel(label, color=theme["soft"], fontsize=9)
      axes.set_ylim(0, 103)
      drawing.percent(axes.yaxis)
    drawing.percent(every[1].xaxis)
    drawing.label_x(every[1], theme, "share of the pairs that is dropped")
    drawing.legend(every[0], theme)

  return drawing.figure(
    "found",
    "Wrong pairs among what is dropped",
    paint,
    caption="Precision: of the dropped pairs, those that are wrong. Recall: of the"
    " wrong pairs, those that are dropped.",
    size=(5.4, 4.6),
    heights=(1.0, 1.0),
  )


# --- pictures ---------------------------------------------------------------------


def choose(scored: Scored, keep: np.ndarray, owner: np.ndarray, seed: int):
  """Title -> numbers of pairs; of one image one pair at most under each title.

  Args:
    owner: int [n], the record of each pair.
  """
  order = scored.order()
  inside, outside = order[keep[order]], order[~keep[order]]
  drawn = rankings.draw(len(order), SHOWN, seed)
  return {
    "Drawn at random": np.sort(order)[drawn],
    "Best: the fewest random captions fit as well": _one_each(order, owner),
    "At the cut: the last that are kept": _one_each(inside[::-1], owner),
    "At the cut: the first that are dropped": _one_each(outside, owner),
    "Worst: the most random captions fit as well": _one_each(order[::-1], owner),
  }


def _one_each(order: np.ndarray, owner: np.ndarray) -> np.ndarray:
  first = np.sort(np.unique(owner[order], return_index=True)[1])
  return order[first][:SHOWN]


def _sections(scored, keep, data, wrong, seed):
  """({title: [Shown]}, why some pictures cannot be shown)."""
  if data is None:
    return {}, []
  owner, number = _places(data)
  pictures = Pictures(data)

  def shown(pair: int) -> Shown | None:
    try:
      text = str(data.records[int(owner[pair])].captions[int(number[pair])])
    except ImageError as error:  # a record of a stream
      pictures.broken[f"pair {pair}"] = str(error)
      return None
    return Shown(
      pictures[int(owner[pair])],
      text,
      f"{scored.s0[pair]:.3f}",
      f"{scored.c[pair]:,}",
      bool(keep[pair]),
      None if wrong is None else bool(wrong[pair]),
    )

  chosen = choose(scored, keep, owner, seed)
  found = {
    title: list(filter(None, map(shown, pairs.tolist())))
    for title, pairs in chosen.items()
  }
  return found, list(pictures.broken.values())


def _places(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
  """int [n] each: the record of every pair, and which of its captions it is."""
  if data.stream is not None:
    return data.stream.record, data.stream.number
  counts = kept.listing(data).counts
  first = np.cumsum(counts) - counts
  owner = np.repeat(np.arange(len(counts)), counts)
  return owner, np.arange(len(owner)) - first[owner]


def _facts(header: Mapping[str, Any]) -> dict[str, str]:
  drawn, scorer = header["pool"], header["scorer"]
  excluded = [
    what
    for what, name in (("itself", "exclude_self"), ("same person", "exclude_same_id"))
    if drawn[name]
  ]
  cut, pairs = header["cut"], header["pairs"]
  k = "" if header["k"] is None or cut["by"] == "k" else f" (k = {header['k']:,})"
  least = header["min_pairs_per_id"]
  step = "" if scorer["step"] is None else f", step {scorer['step']:,}"
  return {
    "kept": f"{header['kept']:,} of {pairs:,} pairs"
    f" ({100 * header['kept'] / pairs:.2f} %), {header['identities_kept']:,} of"
    f" {header['identities']:,} identities"
    + (f"; {header['unreadable']:,} pairs unreadable" if header["unreadable"] else ""),
    "cut": f"{cut['by']} = {cut['value']:g}{k}"
    + (f", at least {least} pairs a person" if least else ""),
    "pool": f"{drawn['size']:,} captions drawn from {drawn['drawn_from']:,} of"
    f" {drawn['name']}/{drawn['split']} with seed {drawn['seed']}; excluded:"
    f" {', '.join(excluded) or 'none'}",
    "scorer": f"{scorer['kind']}, weights {scorer['weights'][:12]}{step}",
    "devices": ", ".join(header["devices"]),
  }
