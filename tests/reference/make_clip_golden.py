"""Writes tests/models/golden/clip_tiny.npz: a random tiny CLIP as transformers runs it.

  pip install torch transformers
  python tests/reference/make_clip_golden.py

The weights are drawn by numpy (seeded) and rounded to float16, so that the file is
small and holds them exactly; the outputs are PyTorch's in float32.
"""

import pathlib

import numpy as np

PATH = pathlib.Path(__file__).parent.parent / "models" / "golden" / "clip_tiny.npz"
CONFIG = dict(
  projection_dim=16,
  vision=dict(
    hidden_size=32,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=24,
    patch_size=8,
  ),
  text=dict(
    hidden_size=24,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    vocab_size=60,
    max_position_embeddings=12,
    bos_token_id=58,
    eos_token_id=59,
    pad_token_id=0,
  ),
)


def texts() -> np.ndarray:
  """int64 [4, 12]: start 58, words, end 59, padding 0; one fills the whole length."""
  rng = np.random.default_rng(1)
  ids = np.zeros((4, 12), np.int64)
  for row, words in enumerate((3, 7, 1, 10)):
    ids[row, 0], ids[row, words + 1] = 58, 59
    ids[row, 1 : words + 1] = rng.integers(1, 58, words)
  return ids


def main() -> None:
  import torch
  from transformers import CLIPConfig, CLIPModel

  config = CLIPConfig(
    text_config=CONFIG["text"],
    vision_config=CONFIG["vision"],
    projection_dim=CONFIG["projection_dim"],
  )
  model = CLIPModel(config).eval()
  rng = np.random.default_rng(0)
  weights = {}
  for name, value in model.state_dict().items():
    if not value.is_floating_point():
      continue
    scale = 0.3 if value.ndim < 2 else 1.5 / np.sqrt(np.prod(value.shape[1:]))
    drawn = rng.normal(0.0, scale, tuple(value.shape))
    if "norm" in name and name.endswith("weight"):
      drawn = drawn + 1.0
    weights[name] = drawn.astype(np.float16)
  model.load_state_dict(
    {k: torch.from_numpy(v.astype(np.float32)) for k, v in weights.items()},
    strict=False,
  )
  image = rng.normal(0.0, 1.0, (4, 24, 24, 3)).astype(np.float32)
  with torch.no_grad():
    vision = model.vision_model(torch.from_numpy(image).permute(0, 3, 1, 2))
    image_tokens = model.visual_projection(
      model.vision_model.post_layernorm(vision.last_hidden_state)
    )
    ids = torch.from_numpy(texts())
    text_tokens = model.text_projection(model.text_model(ids).last_hidden_state)
    both = model(
      input_ids=ids, pixel_values=torch.from_numpy(image).permute(0, 3, 1, 2)
    )
  PATH.parent.mkdir(exist_ok=True)
  np.savez_compressed(
    PATH,
    **{f"weights/{name}": value for name, value in weights.items()},
    image_input=image,
    text_input=texts().astype(np.int32),
    image_tokens=image_tokens.numpy(),
    text_tokens=text_tokens.numpy(),
    image=both.image_embeds.numpy(),
    text=both.text_embeds.numpy(),
  )
  print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
  main()
