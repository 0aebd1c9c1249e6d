"""Writes tests/models/golden/clip_overlap.npz: a tiny CLIP whose patches overlap.

  pip install torch
  python -m tests.reference.make_clip_overlap_golden

Run by hand, from the repository's root. The towers are those of irra_torch.py under
OpenAI's names: a picture that is no square, a stride below the patch that leaves a rest
of two pixels on either axis, 24 tokens. The weights are drawn by numpy (seeded) and
rounded to float16, so that the file is small and holds them exactly; the outputs are
PyTorch's in float64, stored as float32.
"""

import pathlib

import numpy as np

from tests.reference import draws

PATH = pathlib.Path(__file__).parent.parent / "models" / "golden" / "clip_overlap.npz"
VOCABULARY, LENGTH = 60, 24
VISION = dict(image=(28, 22), patch=8, stride=6, width=24, layers=2, heads=2)
TEXT = dict(length=LENGTH, vocabulary=VOCABULARY, width=16, layers=2, heads=2)
JOINT = 12


def weights() -> dict[str, np.ndarray]:
  """OpenAI's name -> float16 value."""
  from tests.reference import irra_torch

  rng = np.random.default_rng(0)
  model = irra_torch.Clip(vision=VISION, **TEXT, joint=JOINT)
  return {
    name: draws.weight(name, tuple(value.shape), rng).astype(np.float16)
    for name, value in model.named_parameters()
  }


def inputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
  """float32 [3, 28, 22, 3] normalised pixels; int64 [3, 24] texts, one of them full."""
  rng = np.random.default_rng(seed)
  image = rng.normal(0.0, 1.0, (3, *VISION["image"], 3)).astype(np.float32)
  return image, draws.texts((LENGTH - 2, 9, 1), LENGTH, VOCABULARY, rng)


def outputs(weights, image: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
  """PyTorch's projected tokens [B, T, D], [B, L, D] and unit features, float32."""
  import torch
  from torch.nn.functional import normalize

  from tests.reference import irra_torch

  model = irra_torch.Clip(vision=VISION, **TEXT, joint=JOINT).double()
  state = {k: torch.from_numpy(np.asarray(v, np.float64)) for k, v in weights.items()}
  model.load_state_dict(state)
  ids = torch.from_numpy(ids)
  with torch.no_grad():
    image_tokens = model.visual(torch.from_numpy(image).double())
    text_tokens = model.encode_text(ids)
  text = text_tokens[torch.arange(len(ids)), ids.argmax(dim=1)]
  found = dict(
    image=normalize(image_tokens[:, 0], dim=1),
    text=normalize(text, dim=1),
    image_tokens=image_tokens,
    text_tokens=text_tokens,
  )
  return {name: value.float().numpy() for name, value in found.items()}


def make() -> dict[str, np.ndarray]:
  """Everything in the file."""
  drawn, (image, ids) = weights(), inputs(seed=1)
  return {
    **{f"weights/{name}": value for name, value in drawn.items()},
    **outputs(drawn, image, ids),
    "image_input": image,
    "text_input": ids.astype(np.int8),
  }


def main() -> None:
  np.savez_compressed(PATH, **make())
  print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
  main()
