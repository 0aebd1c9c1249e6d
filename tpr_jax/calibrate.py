"""Probabilities of hits for a trained model: fitted on validation, judged on tests.

metrics/calibration.py has the method, calibration_files.py the file: in the run folder
beside `results.json`, and a copy in an index, so that a search can say how likely each
hit is, and that nothing matches.
"""

from typing import Any, NamedTuple

import numpy as np

from tpr_jax.data.record import Dataset
from tpr_jax.encoding import Features
from tpr_jax.metrics import calibration
from tpr_jax.metrics.calibration import Calibration
from tpr_jax.metrics.calibration import CalibrationError as CalibrationError

FALSE_ALARMS = 0.05  # what is told of tests


class Fitted(NamedTuple):
  """A calibration, and what it is compared with: the one cosine above which validation
  has `FALSE_ALARMS` in a gallery of all its pictures."""

  calibration: Calibration
  flat: float


def fit(features: Features, data: Dataset, most: int, *, seed: int) -> Fitted:
  """Fits on a split.

  Args:
    most: queries that are used; they are drawn where there are more.

  Raises:
    CalibrationError: too few queries or pictures.
  """
  cosines, match = _asked(features, data, most, seed)
  source = dict(
    data=f"{data.name}/{data.split}",
    queries=len(cosines),
    gallery=cosines.shape[1],
    seed=seed,
  )
  made = calibration.fit(cosines, match, seed=seed, source=source)
  strangers = np.where(match, -np.inf, cosines).max(1)
  return Fitted(made, float(np.quantile(strangers, 1 - FALSE_ALARMS)))


def judge(
  fitted: Fitted, features: Features, data: Dataset, most: int
) -> dict[str, Any]:
  """What the calibration is worth on another split: {"calibration": plain JSON}, or {}
  where its gallery has too few people.

  Every query is asked twice, of all pictures and of those of other people. `hits`: the
  first hits of both, in bins of their probability. `presence`: shares, by the threshold
  for `FALSE_ALARMS` on validation, and by one cosine for all.
  """
  cosines, match = _asked(features, data, most, seed=0)
  made = fitted.calibration
  said, true, logits, best = [], [], ([], []), ([], [])
  for row, own in zip(cosines, match, strict=True):
    for there in (False, True):
      shown, owned = (row, own) if there else (row[~own], np.zeros((~own).sum(), bool))
      if not len(shown):
        return {}
      order = np.argsort(-shown, kind="stable")[: calibration.SHOWN]
      seen = calibration.background(shown)
      said.append(made.probabilities(seen, shown[order]))
      true.append(owned[order])
      logits[there].append(made.presence(seen))
      best[there].append(shown.max())
  right = match[np.arange(len(match)), cosines.argmax(1)]
  found = calibration.reliability(np.concatenate(said), np.concatenate(true))
  by = {
    "probability": (logits, made.threshold(FALSE_ALARMS)),
    "cosine": (best, fitted.flat),
  }
  presence = {
    name: calibration.detection(
      np.array(scores[True]), np.array(scores[False]), right, threshold
    )._asdict()
    for name, (scores, threshold) in by.items()
  }
  filled = found.count > 0
  hits = dict(
    error=found.error,
    count=found.count[filled].tolist(),
    said=found.said[filled].tolist(),
    true=found.true[filled].tolist(),
  )
  asked = dict(queries=len(cosines), gallery=cosines.shape[1], asked=FALSE_ALARMS)
  return {"calibration": dict(asked, hits=hits, presence=presence)}


def _asked(
  features: Features, data: Dataset, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """float32 [Q, N] cosines, bool [Q, N] matches of queries that have any.

  Raises:
    CalibrationError: no query has one.
  """
  identity = np.array([record.identity for record in data.records])
  gallery = identity[features.image_record]
  asked = identity[features.text_record]
  real = np.isin(asked, gallery)
  real[np.asarray(features.empty, int)] = False
  rows = np.flatnonzero(real)
  if not len(rows):
    raise CalibrationError(f"no query of {data.name}/{data.split} has a match")
  if len(rows) > most:
    rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
  cosines = features.text[rows] @ features.image.T
  return cosines, asked[rows, None] == gallery
