"""The golden arrays of IRRA as plain numpy; make_irra_golden.py says how they are made.

`trace()` is a training run of a tiny IRRA, `losses()` single losses with gradients.
"""

import dataclasses
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "golden"
TRACE, LOSSES = FOLDER / "irra_trace.npz", FOLDER / "irra_losses.npz"
BATCH_KEYS = ("image", "text", "ids", "mlm_text", "mlm_labels")
TERMS = ("sdm", "id", "mlm", "total")

# Arguments of the tiny model; MODEL["towers"] are those of irra_torch.Clip.
MODEL = dict(
  towers=dict(
    vision=dict(image=(32, 16), patch=8, width=32, layers=2, heads=2),
    length=12,
    vocabulary=64,
    width=32,
    layers=2,
    heads=2,
    joint=128,
  ),
  classes=11,
  depth=4,
)
START, END, MASK, LAST_WORD = 62, 63, 61, 60
SCALE = 1 / 0.02
BASE = 1e-3  # learning rate of the trace; IRRA's own is IRRA_BASE
IRRA_BASE = 1e-5
STEPS, STEPS_AN_EPOCH, BATCH = 14, 2, 8


@dataclasses.dataclass(frozen=True)
class Trace:
  """STEPS updates of the tiny model; P parameters, in the order of `names`.

  How far a port may be off: float32's rounding against float64 is at most 1.1e-6 of the
  largest loss, 4e-6 of a gradient's norm (`gradient_probes`) and 6e-5 of an update's
  norm (`final_probes`). A wrong weight decay moves no loss by more than 2e-5, but some
  of `final_probes` by 2e-2 and more, so compare those of all parameters; every other
  slip that was tried (residual, norms, epsilons, factors, warm-up) moves them by 1e-3
  and more.

  Attributes:
    names: P torch names.
    weights: by name, float32, before the first step.
    batches: one dict a step: image float32 [8, 32, 16, 3] (normalised), text, mlm_text,
      mlm_labels int32 [8, 12], ids int32 [8].
    losses: by term (`TERMS`), float32 [STEPS], each before that step's update.
    losses64: the same run in float64; the difference is float32's rounding.
    lr: float64 [STEPS], the learning rate of a 1x group in each step.
    lr_factor, weight_decay: by name, of its parameter group.
    gradient_norm: L2 norm of the first step's gradient of everything, no weight decay.
    gradient_probes: by name, float64 [2]: `probe` of the first step's gradient.
    gradients: by name, float32: `rows` of some gradients of the first step.
    final_probes: by name, float64 [2]: `probe` of (final - initial) value.
    final: by name, float32: `rows` of some final values.
    outputs: first batch, initial weights; token sequences for its first two rows only.
    epoch_lr: by factor (1, 2, 5), float64 [60]: IRRA's 60 epochs with base 1e-5.
  """

  names: tuple[str, ...]
  weights: dict[str, np.ndarray]
  batches: list[dict[str, np.ndarray]]
  losses: dict[str, np.ndarray]
  losses64: dict[str, np.ndarray]
  lr: np.ndarray
  lr_factor: dict[str, float]
  weight_decay: dict[str, float]
  gradient_norm: float
  gradient_probes: dict[str, np.ndarray]
  gradients: dict[str, np.ndarray]
  final_probes: dict[str, np.ndarray]
  final: dict[str, np.ndarray]
  outputs: dict[str, np.ndarray]
  epoch_lr: dict[int, np.ndarray]


def probe(value) -> np.ndarray:
  """float64 [2]: L2 norm, and sum of value * cos(flat index): sees a swapped entry."""
  flat = np.asarray(value, np.float64).ravel()
  return np.array([np.sqrt(flat @ flat), flat @ np.cos(np.arange(flat.size))])


def rows(value: np.ndarray, limit: int = 1024) -> np.ndarray:
  """Every n-th row of axis 0, n the smallest that leaves about `limit` entries."""
  return value[:: max(1, -(-value.size // limit))] if value.ndim > 1 else value


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  """The entries whose name starts with `prefix/`, without it."""
  start = f"{prefix}/"
  return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Every array of an npz file, by its name in the file."""
  with np.load(path) as file:
    return {name: file[name] for name in file.files}


def expand(whole: np.ndarray, step) -> np.ndarray:
  """float32 of an array stored as whole multiples of `step`, a power of two: exact."""
  return whole.astype(np.float32) * np.float32(step)


def trace(path: pathlib.Path = TRACE) -> Trace:
  """The trace as it was written; `Trace` says what is in it."""
  stored = read(path)
  names = tuple(str(name) for name in stored["names"])
  batches = below(stored, "batches")
  batches["image"] = expand(batches["image"], stored["image_step"])
  steps = dict(zip(names, stored["weight_steps"], strict=True))
  return Trace(
    names=names,
    weights={k: expand(v, steps[k]) for k, v in below(stored, "weights").items()},
    batches=[{k: batches[k][i] for k in BATCH_KEYS} for i in range(STEPS)],
    losses=below(stored, "losses"),
    losses64=below(stored, "losses64"),
    lr=stored["lr"],
    lr_factor=dict(zip(names, stored["lr_factors"].tolist(), strict=True)),
    weight_decay=dict(zip(names, stored["weight_decays"].tolist(), strict=True)),
    gradient_norm=float(stored["gradient_norm"]),
    gradient_probes=dict(zip(names, stored["gradient_probes"], strict=True)),
    gradients=below(stored, "gradients"),
    final_probes=dict(zip(names, stored["final_probes"], strict=True)),
    final=below(stored, "final"),
    outputs=below(stored, "outputs"),
    epoch_lr={int(k): v for k, v in below(stored, "epoch_lr").items()},
  )


def losses(path: pathlib.Path = LOSSES) -> dict[str, dict[str, np.ndarray]]:
  """By case: its `value` [] and gradients (`d_image`, ...); "inputs": what went in."""
  stored = read(path)
  cases = sorted({name.split("/")[0] for name in stored})
  return {case: below(stored, case) for case in cases}
