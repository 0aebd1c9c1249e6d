"""Rendered people: views (camera, light, pose, surroundings) and camera families."""

import dataclasses
from collections.abc import Mapping

import numpy as np

# The side of the person that the camera sees: "left" shows the person's left side
# (who then faces the left edge of the picture).
DIRECTIONS = (
  "front",
  "front-left",
  "left",
  "back-left",
  "back",
  "back-right",
  "right",
  "front-right",
)
_DIRECTION_WEIGHTS = (0.24, 0.13, 0.09, 0.08, 0.16, 0.08, 0.09, 0.13)
POSES = ("walking", "standing")
BACKGROUNDS = ("street", "wall", "grass", "station", "shop front", "night street")
NEIGHBOURS = ("none", "left", "right")  # edge of the picture with another person
OCCLUDERS = ("none", "pole", "low")  # low: a hedge or barrier over the feet
CASTS = {
  "neutral": (1.0, 1.0, 1.0),
  "warm": (1.06, 1.0, 0.9),
  "cool": (0.92, 0.99, 1.08),
  "green": (0.93, 1.05, 0.94),
  "sodium": (1.12, 0.96, 0.72),
}


@dataclasses.dataclass(frozen=True)
class View:
  """One camera's picture of somebody; nothing here depends on who it is.

  Attributes:
    domain: camera family, a key of `DOMAINS`.
    direction: one of `DIRECTIONS`. pose: one of `POSES`.
    phase: walking phase in [0, 1). arms: swing of the arms in [0, 1].
    tilt: height of the camera in [0, 1]; 1 foreshortens legs clearly.
    scale: height of an adult as a share of the picture. shift_x, shift_y: offset of
      the person as a share of width and height.
    background: one of `BACKGROUNDS`; clutter: number of things in it;
    neighbour: one of `NEIGHBOURS`.
    light: gain, 1 is neutral. contrast: around mid grey, 1 is neutral.
    cast: one of `CASTS`. shade: strength of the light from one side in [-1, 1].
    blur: radius as a share of the picture's width. noise: standard deviation in grey
      levels. resolution: share of the pixels kept before enlarging again.
    jpeg: quality of a JPEG round trip, 0 for none.
    occluder: one of `OCCLUDERS`; occluder_at: where, in [0, 1].
    seed: layout of background, neighbour and occluder.
  """

  domain: str
  direction: str
  pose: str
  phase: float
  arms: float
  tilt: float
  scale: float
  shift_x: float
  shift_y: float
  background: str
  clutter: int
  neighbour: str
  light: float
  contrast: float
  cast: str
  shade: float
  blur: float
  noise: float
  resolution: float
  jpeg: int
  occluder: str
  occluder_at: float
  seed: int


@dataclasses.dataclass(frozen=True)
class Domain:
  """A camera family: names with weights, and (low, high) of uniform draws."""

  backgrounds: Mapping[str, float]
  casts: Mapping[str, float]
  tilt: tuple[float, float]
  light: tuple[float, float]
  contrast: tuple[float, float]
  blur: tuple[float, float]
  noise: tuple[float, float]
  resolution: tuple[float, float]
  jpeg: tuple[int, int]
  clutter: tuple[int, int]
  occluded: float  # share of views with an occluder
  accompanied: float  # share of views with another person's edge


DOMAINS: dict[str, Domain] = {
  # Daylight, eye level, decent cameras: the default.
  "street": Domain(
    backgrounds={"street": 0.35, "wall": 0.25, "grass": 0.2, "shop front": 0.2},
    casts={"neutral": 0.6, "warm": 0.25, "cool": 0.15},
    tilt=(0.0, 0.25),
    light=(0.9, 1.12),
    contrast=(0.92, 1.08),
    blur=(0.0, 0.004),
    noise=(0.0, 4.0),
    resolution=(0.7, 1.0),
    jpeg=(75, 95),
    clutter=(1, 4),
    occluded=0.06,
    accompanied=0.15,
  ),
  # Indoor surveillance from above: greenish, flat, coarse pixels.
  "station": Domain(
    backgrounds={"station": 0.75, "wall": 0.25},
    casts={"green": 0.6, "cool": 0.4},
    tilt=(0.55, 1.0),
    light=(0.78, 0.95),
    contrast=(0.68, 0.84),
    blur=(0.006, 0.014),
    noise=(3.0, 8.0),
    resolution=(0.4, 0.65),
    jpeg=(35, 65),
    clutter=(2, 5),
    occluded=0.15,
    accompanied=0.35,
  ),
  # After dark under sodium lamps: dim, orange, noisy.
  "night": Domain(
    backgrounds={"night street": 0.8, "shop front": 0.2},
    casts={"sodium": 0.7, "warm": 0.3},
    tilt=(0.1, 0.5),
    light=(0.6, 0.8),
    contrast=(0.9, 1.1),
    blur=(0.003, 0.01),
    noise=(8.0, 16.0),
    resolution=(0.55, 0.85),
    jpeg=(50, 80),
    clutter=(1, 4),
    occluded=0.08,
    accompanied=0.15,
  ),
  # Bright shop lights, sharp cameras, washed-out highlights.
  "mall": Domain(
    backgrounds={"shop front": 0.6, "station": 0.4},
    casts={"cool": 0.5, "neutral": 0.5},
    tilt=(0.25, 0.6),
    light=(1.1, 1.22),
    contrast=(0.95, 1.12),
    blur=(0.0, 0.003),
    noise=(0.0, 3.0),
    resolution=(0.85, 1.0),
    jpeg=(80, 95),
    clutter=(3, 6),
    occluded=0.1,
    accompanied=0.3,
  ),
}


def _weighted(rng, weights):
  share = np.asarray(list(weights.values()), float)
  return list(weights)[int(rng.choice(len(share), p=share / share.sum()))]


def sample_view(rng: np.random.Generator, domain: str) -> View:
  """A view of camera family `domain`, a key of `DOMAINS` (else ValueError)."""
  if domain not in DOMAINS:
    raise ValueError(f"no domain {domain!r}; domains: {', '.join(DOMAINS)}")
  d = DOMAINS[domain]
  jpeg, clutter = (int(rng.integers(a, b + 1)) for a, b in (d.jpeg, d.clutter))
  occluded, accompanied = rng.random() < d.occluded, rng.random() < d.accompanied
  occluder = OCCLUDERS[1 + int(rng.integers(2))]
  neighbour = NEIGHBOURS[1 + int(rng.integers(2))]
  return View(
    domain=domain,
    direction=DIRECTIONS[int(rng.choice(len(DIRECTIONS), p=_DIRECTION_WEIGHTS))],
    pose=POSES[0] if rng.random() < 0.65 else POSES[1],
    phase=float(rng.random()),
    arms=float(rng.random()),
    tilt=float(rng.uniform(*d.tilt)),
    scale=float(rng.uniform(0.88, 0.96)),
    shift_x=float(rng.uniform(-0.06, 0.06)),
    shift_y=float(rng.uniform(-0.015, 0.015)),
    background=_weighted(rng, d.backgrounds),
    clutter=clutter,
    neighbour=neighbour if accompanied else "none",
    light=float(rng.uniform(*d.light)),
    contrast=float(rng.uniform(*d.contrast)),
    cast=_weighted(rng, d.casts),
    shade=float(rng.uniform(-1, 1)),
    blur=float(rng.uniform(*d.blur)),
    noise=float(rng.uniform(*d.noise)),
    resolution=float(rng.uniform(*d.resolution)),
    jpeg=jpeg,
    occluder=occluder if occluded else "none",
    occluder_at=float(rng.random()),
    seed=int(rng.integers(2**31)),
  )
