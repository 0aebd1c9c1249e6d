"""Figures of one evaluation: ranks, similarities, and what a threshold would do."""

import math

import numpy as np

from tpr_jax.report import drawing
from tpr_jax.report.drawing import Figure
from tpr_jax.report.files import Pairs, Ranking

_STEPS = (1, 2, 5)
_POINT = 50  # fewest pairs behind a point of the calibration


def draw(ranking: Ranking) -> list[Figure]:
  """The figures that the file allows; `remarks` says what is missing."""
  if not (ranking.first_rank > 0).any():
    return []
  figures, pairs = [_ranks(ranking)], ranking.pairs
  if pairs is not None:
    figures.append(_similarities(pairs))
    if pairs.matched.any():
      figures += [_calibration(pairs), _threshold(pairs)]
  return figures


def remarks(ranking: Ranking) -> list[str]:
  """What has to be said beside the figures, one sentence each."""
  queries, pairs, said = len(ranking.first_rank), ranking.pairs, []
  if not (ranking.first_rank > 0).any():
    return ["No query has a right image in the gallery: there is nothing to draw."]
  if ranking.gallery_identity is None:
    said.append("What a random ranking would give is not known: the file is older.")
  if pairs is None:
    said.append(
      "The distribution of the similarities is not known: the evaluation is older; run"
      " --mode=eval again."
    )
  elif pairs.unmatched_queries < queries:
    said.append(
      f"Unmatched pairs are those of {pairs.unmatched_queries:,} of {queries:,}"
      " queries, drawn at random; matched pairs are all counted."
    )
  return said


# --- ranks ------------------------------------------------------------------------


def rank_bins(gallery: int) -> list[tuple[int, int]]:
  """First and last rank of each bin: 1, 2-5, 6-10, 11-20, 21-50, ..., `gallery`."""
  ends = [a * 10**power for power in range(12) for a in _STEPS if a * 10**power != 2]
  found, start = [], 1
  for end in ends:
    if start > gallery:
      break
    found.append((start, min(end, gallery)))
    start = end + 1
  return found


def random_shares(
  bins: list[tuple[int, int]], matches: np.ndarray, gallery: int
) -> np.ndarray:
  """float64 [bins]: where a random ranking has its first match, mean over queries.

  With n matches among G, P(first > r) = C(G - r, n) / C(G, n).

  Args:
    matches: int [Q], at least 1 each.
  """
  numbers, counts = np.unique(matches, return_counts=True)
  ends = [0, *(last for _, last in bins)]
  beyond = np.zeros(len(ends))
  for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
    beyond += count * np.array([_beyond(rank, number, gallery) for rank in ends])
  return -np.diff(beyond) / len(matches)


def _beyond(rank: int, number: int, gallery: int) -> float:
  left = gallery - rank
  if left < number:
    return 0.0
  log = lambda n: math.lgamma(n + 1) - math.lgamma(n - number + 1)
  return math.exp(log(left) - log(gallery))


def _ranks(ranking: Ranking) -> Figure:
  first = ranking.first_rank[ranking.first_rank > 0]
  known = ranking.gallery_identity is not None
  gallery = len(ranking.gallery_identity) if known else int(first.max())
  bins = rank_bins(gallery)
  shares = np.array([((first >= a) & (first <= b)).mean() for a, b in bins])
  chance = random_shares(bins, ranking.matches(), gallery) if known else None

  def paint(axes, theme):
    at = np.arange(len(bins))
    axes.bar(at, 100 * shares, width=0.72, color=theme["lines"][0], label="this model")
    if chance is not None:
      style = dict(color=theme["lines"][1], linewidth=1.6)
      edges = np.arange(len(bins) + 1) - 0.5
      axes.stairs(100 * chance, edges, label="a random ranking", **style)
      drawing.legend(axes, theme)
    for x, share in zip(at, shares, strict=True):
      axes.annotate(
        f"{100 * share:.0f}" if share >= 0.01 or not share else "<1",
        (x, 100 * share),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color=theme["ink"],
        bbox=dict(pad=0.4, facecolor=theme["paper"], edgecolor="none", alpha=0.8),
      )
    many = len(bins) > 8
    labels = [f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in bins]
    turned = dict(rotation=35, ha="right") if many else {}
    axes.set_xticks(at, labels, **turned)
    axes.set_xlim(-0.6, len(bins) - 0.4)
    axes.margins(y=0.12)
    drawing.label_x(axes, theme, "rank of the first right image")
    drawing.percent(axes.yaxis)

  return drawing.figure(
    "ranks",
    "Rank of the first right image",
    paint,
    caption="Share of the queries by the rank of their first right image: the further"
    " left, the fewer images a person must look at; the outline is what a ranking that"
    " knows nothing would give.",
  )


# --- similarities -----------------------------------------------------------------


def _shown(pairs: Pairs) -> tuple[float, float]:
  """The cosines that occur, with a little room."""
  used = np.flatnonzero(pairs.matched + pairs.unmatched)
  low, high = pairs.edges[used[0]], pairs.edges[used[-1] + 1]
  room = 0.03 * (high - low)
  return float(low - room), float(high + room)


def density_of(
  counts: np.ndarray, edges: np.ndarray, fewest: int = 25
) -> tuple[np.ndarray, np.ndarray]:
  """(edges, density): neighbouring bins joined where few pairs make a ragged outline.

  2, 4 or 8 bins become one, until those in use hold `fewest` pairs on average.
  """
  for joined in (1, 2, 4, 8):
    whole = -(-len(counts) // joined) * joined
    sums = np.pad(counts, (0, whole - len(counts))).reshape(-1, joined).sum(axis=1)
    if sums[sums > 0].mean() >= fewest:
      break
  ends = edges[np.minimum(np.arange(len(sums) + 1) * joined, len(counts))]
  return ends, sums / sums.sum() / np.diff(ends)


def _similarities(pairs: Pairs) -> Figure:
  means = pairs.means

  def paint(axes, theme):
    for counts, label, colour, mean in (
      (pairs.unmatched, "unmatched", theme["lines"][1], means[1]),
      (pairs.matched, "matched", theme["lines"][0], means[0]),
    ):
      if not counts.sum():
        continue
      edges, density = density_of(counts, pairs.edges)
      axes.stairs(density, edges, fill=True, color=colour, alpha=0.35)
      axes.stairs(density, edges, color=colour, linewidth=1.2, label=label)
      if np.isfinite(mean):
        axes.axvline(
          mean, color=colour, linewidth=1.2, linestyle=(0, (4, 3)),
          label=f"mean {mean:.2f}",
        )  # fmt: skip
    axes.set_xlim(*_shown(pairs))
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    drawing.legend(axes, theme)
    drawing.label_x(axes, theme, "cosine (density of each kind of pair)")

  ratio = ""
  if np.isfinite(means).all():
    value = (means[0] + 1) / max(means[1] + 1, 1e-9)
    ratio = f" (here ({means[0]:.2f} + 1) / ({means[1]:.2f} + 1) = {value:.2f})"
  return drawing.figure(
    "similarities",
    "Similarities of matched and unmatched pairs",
    paint,
    caption="What both colours cover is what a cosine alone cannot tell apart; mSD"
    f" rewards means that lie far apart, by the ratio of their (cos + 1){ratio}.",
  )


# --- calibration and threshold ----------------------------------------------------


def calibration(pairs: Pairs, fewest: int = _POINT) -> tuple[np.ndarray, np.ndarray]:
  """(cosine [n], share of right matches [n]) of neighbouring bins put together.

  Each point has at least `fewest` pairs (the last may have fewer); shares are those of
  all pairs, where unmatched ones were sampled.
  """
  unmatched = pairs.unmatched * pairs.scale
  centre = (pairs.edges[:-1] + pairs.edges[1:]) / 2
  cosines, shares, at = [], [], []
  counted = pairs.matched + pairs.unmatched
  for place in np.flatnonzero(counted):
    at.append(place)
    if counted[at].sum() >= fewest or place == np.flatnonzero(counted)[-1]:
      right, wrong = pairs.matched[at].sum(), unmatched[at].sum()
      cosines.append(np.average(centre[at], weights=counted[at]))
      shares.append(right / (right + wrong))
      at = []
  return np.array(cosines), np.array(shares)


def _calibration(pairs: Pairs) -> Figure:
  cosines, shares = calibration(pairs)
  known = shares > 0
  unmatched = pairs.unmatched * pairs.scale
  base = pairs.matched.sum() / max(pairs.matched.sum() + unmatched.sum(), 1)

  def paint(panels, theme):
    top, bottom = panels
    top.plot(
      cosines[known], 100 * shares[known], color=theme["lines"][0], marker="o",
      markersize=3, linewidth=1.3, label="right matches among the pairs",
    )  # fmt: skip
    top.axhline(
      100 * base, color=theme["soft"], linewidth=1, linestyle=(0, (4, 3)),
      label="among all pairs",
    )  # fmt: skip
    _log_percent(top, 100 * min(base, *shares[known]))
    drawing.legend(top, theme)
    for counts, colour in ((unmatched, 1), (pairs.matched, 0)):
      if counts.any():
        line = dict(color=theme["lines"][colour], linewidth=1.1)
        bottom.stairs(counts, pairs.edges, **line)
    bottom.set_ylim(0.7, 2.0 * max(unmatched.max(), pairs.matched.max(), 1))
    bottom.set_yscale("log")
    bottom.minorticks_off()
    top.set_xlim(*_shown(pairs))
    drawing.label_x(bottom, theme, "cosine (below: matched and unmatched pairs)")

  return drawing.figure(
    "calibration",
    "How often a pair of this cosine is right",
    paint,
    caption="The line's height at a cosine is the share of right matches among the"
    " pairs of this cosine, in this gallery (a larger one lowers the line); cosines"
    " that no right match has carry no point.",
    size=(5.4, 3.6),
    heights=(2.2, 1.0),
  )


def _log_percent(axes, lowest: float) -> None:
  axes.set_ylim(10 ** math.floor(math.log10(max(lowest, 1e-7))) * 0.9, 130)
  axes.set_yscale("log")
  drawing.percent(axes.yaxis)
  axes.minorticks_off()


def threshold(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(t, precision, recall) [n] of accepting every pair whose cosine is t or more.

  t are the lower edges of the bins, without those above the highest cosine.
  """
  right = np.cumsum(pairs.matched[::-1])[::-1]
  wrong = np.cumsum((pairs.unmatched * pairs.scale)[::-1])[::-1]
  some = right + wrong > 0
  right, wrong = right[some], wrong[some]
  recall = right / max(pairs.matched.sum(), 1)
  return pairs.edges[:-1][some], right / (right + wrong), recall


def _threshold(pairs: Pairs) -> Figure:
  cut, precision, recall = threshold(pairs)
  both = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
  best = int(np.argmax(both))
  low, high = _shown(pairs)
  # Below the lowest right match nothing happens: recall is 100 %.
  lowest = pairs.edges[np.flatnonzero(pairs.matched)[0]] if pairs.matched.any() else low
  shown = max(low, lowest - 0.1 * (high - lowest)), high

  def paint(axes, theme):
    for values, label, colour in ((precision, "precision", 0), (recall, "recall", 1)):
      axes.plot(
        cut, 100 * values, color=theme["lines"][colour], linewidth=1.8, label=label
      )
    style = dict(color=theme["soft"], linewidth=1, linestyle=(0, (4, 3)))
    axes.axvline(cut[best], label="highest F1", **style)
    axes.set_xlim(*shown)
    axes.set_ylim(0, 103)
    drawing.percent(axes.yaxis)
    drawing.legend(axes, theme)
    drawing.label_x(axes, theme, "threshold on the cosine")

  return drawing.figure(
    "threshold",
    "Accepting every pair above a threshold",
    paint,
    caption="Precision is the share of the accepted pairs that are right, recall the"
    " share of the right pairs that are accepted; at"
    f" {cut[best]:.2f} (highest F1) they are {100 * precision[best]:.0f} % and"
    f" {100 * recall[best]:.0f} %, and precision falls as the gallery grows.",
  )
