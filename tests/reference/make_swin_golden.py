"""Writes tests/models/golden/swin_tiny.npz: tiny Swins as transformers runs them.

  pip install torch transformers
  python -m tests.reference.make_swin_golden

Run by hand, from the repository's root. Three pictures that are no squares: one whose
last grid is odd; MRA's kind, whose last stage has smaller windows that are shifted; and
APTM's, whose last grid is narrower than a window. transformers has one window for all
stages, so stages with another are built by its own classes and put in place. Weights
are drawn by numpy (seeded) and rounded to float16, so that the file is small and holds
them exactly; the outputs are PyTorch's in float64, stored as float32.
"""

import pathlib

import numpy as np

from tests.reference import draws

PATH = pathlib.Path(__file__).parent.parent / "models" / "golden" / "swin_tiny.npz"
WIDTH, DEPTHS, HEADS = 8, (2, 2, 2), (1, 2, 4)
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
CASES = {  # grids 12x24, 6x12, 3x6; 24x16, 12x8, 6x4; 24x8, 12x4, 6x2
  "odd": dict(image_size=(48, 96), windows=(3, 3, 3)),
  "last": dict(image_size=(96, 64), windows=(4, 4, 2)),
  "clipped": dict(image_size=(96, 32), windows=(4, 4, 2)),
}
_TABLE = "relative_position_bias_table"
# Newer releases of transformers have other names in memory than in files.
_HUB = (
  ("attention.q_proj", "attention.self.query"),
  ("attention.k_proj", "attention.self.key"),
  ("attention.v_proj", "attention.self.value"),
  ("attention.o_proj", "attention.output.dense"),
  ("attention.relative_position_bias.", "attention.self."),
  ("mlp.fc1", "intermediate.dense"),
  ("mlp.fc2", "output.dense"),
)


def hub_name(name: str) -> str:
  """The name in files of a leaf that transformers has under `name` in memory."""
  for memory, file in _HUB:
    name = name.replace(memory, file)
  return name


def model(image_size: tuple[int, int], windows: tuple[int, ...]):
  """A transformers.SwinModel with a window for every stage, in float64."""
  from transformers import SwinConfig, SwinModel
  from transformers.models.swin.modeling_swin import SwinEncoder

  def config(window):
    sizes = dict(embed_dim=WIDTH, depths=list(DEPTHS), num_heads=list(HEADS))
    rest = dict(image_size=image_size, window_size=window, patch_size=4)
    return SwinConfig(**sizes, **rest, attn_implementation="eager")

  made = SwinModel(config(windows[0]), add_pooling_layer=False)
  for stage, window in enumerate(windows):
    others = SwinEncoder(config(window), tuple(size // 4 for size in image_size))
    made.encoder.layers[stage] = others.layers[stage]
  return made.double().eval()


def weights() -> dict[str, np.ndarray]:
  """Hub name -> float16 value; those of tables begin with "3/" or "4/", the window of
  the first stage."""
  drawn, rng = {}, np.random.default_rng(0)
  for case in ("odd", "last"):
    state = model(**CASES[case]).state_dict()
    named = {hub_name(name): tuple(leaf.shape) for name, leaf in state.items()}
    for name in sorted(named):
      key = f"{CASES[case]['windows'][0]}/{name}" if name.endswith(_TABLE) else name
      if key not in drawn:
        drawn[key] = draws.weight(name, named[name], rng).astype(np.float16)
  return drawn


def of_case(drawn: dict[str, np.ndarray], case: str) -> dict[str, np.ndarray]:
  """Hub name -> float32 value of the model of one case."""
  mine, found = f"{CASES[case]['windows'][0]}/", {}
  for key, value in drawn.items():
    window, _, name = key.rpartition("/")
    if not window or key.startswith(mine):
      found[name] = value.astype(np.float32)
  return found


def image(case: str, seed: int = 1) -> np.ndarray:
  """uint8 [2, H, W, 3], of eight levels: the file is smaller."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, 8, (2, *CASES[case]["image_size"], 3), np.uint8) * 36


def tokens(named: dict[str, np.ndarray], case: str, pictures: np.ndarray) -> np.ndarray:
  """float32 [2, N, 32]: PyTorch's last hidden state."""
  import torch

  swin = model(**CASES[case])
  state = {
    name: torch.from_numpy(named[hub_name(name)].astype(np.float64))
    for name in swin.state_dict()
  }
  swin.load_state_dict(state)
  pixels = (pictures.astype(np.float64) / 255 - MEAN) / STD
  with torch.no_grad():
    out = swin(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
  return out.last_hidden_state.float().numpy()


def make() -> dict[str, np.ndarray]:
  """Everything in the file."""
  drawn = weights()
  made = {f"weights/{name}": value for name, value in drawn.items()}
  for case in CASES:
    made[f"image/{case}"] = image(case)
    made[f"tokens/{case}"] = tokens(of_case(drawn, case), case, image(case))
  return made


def main() -> None:
  np.savez_compressed(PATH, **make())
  print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
  main()
