"""Our towers against PyTorch's at CLIP's full B/16 size, with random float32 weights.

  pip install torch transformers
  python -m tests.reference.full_size

Run by hand, from the repository's root: nine minutes on two busy CPU cores.
Each case writes a checkpoint, which tpr_jax.convert reads:
  transformers' CLIPModel at 224 x 224 with 77 tokens, as a Hugging Face folder;
  tests/reference/irra_torch.py at 384 x 128 with 168 tokens, patches side by side and
  overlapping, under OpenAI's and IRRA's names, as .safetensors and .pth.
Compared are the global features (unit rows, and before the division by their length)
and every projected token of both sequences, padding included. PyTorch computes them in
float32 and float64: the latter says whose rounding a difference is.

The exit status is 1 if a unit feature or a token of ours differs from PyTorch's
float32 by more than 1e-5 of the largest value. Found with JAX 0.10.2 and PyTorch 2.13
on a CPU: at most 1.3e-6 in all five cases; from float64 ours are up to twice as far
as PyTorch's float32.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # accelerators round products further

import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from tests.reference import draws, irra_torch
from tpr_jax.convert import files, towers
from tpr_jax.models import build

TOLERANCE = 1e-5
VOCABULARY = 49_408
KINDS = ("feature", "unit feature", "tokens")
HEADER = ("what", "|ours-f32|", "largest", "relative", "|ours-f64|", "|f32-f64|")
LINE = "  {:<18} {:>10} {:>9} {:>9} {:>10} {:>10}"
# stride, names in the file, its suffix
IRRA_CASES = (
  (16, "openai", ".safetensors"),
  (16, "irra", ".pth"),
  (12, "openai", ".pth"),
  (12, "irra", ".safetensors"),
)


def inputs(size: tuple[int, int], length: int) -> tuple[np.ndarray, np.ndarray]:
  """Two normalised pictures float32 [2, H, W, 3]; two texts int64 [2, length]."""
  rng = np.random.default_rng(1)
  image = rng.normal(0.0, 1.0, (2, *size, 3)).astype(np.float32)
  return image, draws.texts((length - 2, length // 3), length, VOCABULARY, rng)


def fill(model: torch.nn.Module) -> torch.nn.Module:
  """Draws every parameter anew, seeded."""
  rng = np.random.default_rng(0)
  with torch.no_grad():
    for name, value in model.named_parameters():
      value.copy_(torch.from_numpy(draws.weight(name, tuple(value.shape), rng)))
  return model.eval()


def hugging_face() -> torch.nn.Module:
  from transformers import CLIPConfig, CLIPModel

  vision, text = dict(patch_size=16), dict(bos_token_id=49_406, eos_token_id=49_407)
  return fill(CLIPModel(CLIPConfig(vision_config=vision, text_config=text)))


def hugging_face_outputs(model, image, ids) -> dict[str, torch.Tensor]:
  """Features as the library makes them; tokens by its norms and projections."""
  image = image.permute(0, 3, 1, 2)
  vision, text = model.vision_model(image), model.text_model(ids)
  both = model(input_ids=ids, pixel_values=image)
  normed = model.vision_model.post_layernorm(vision.last_hidden_state)
  return {
    "image feature": model.visual_projection(vision.pooler_output),
    "image unit feature": both.image_embeds,
    "image tokens": model.visual_projection(normed),
    "text feature": model.text_projection(text.pooler_output),
    "text unit feature": both.text_embeds,
    "text tokens": model.text_projection(text.last_hidden_state),  # normed already
  }


def irra(stride: int) -> torch.nn.Module:
  vision = dict(image=(384, 128), patch=16, width=768, layers=12, heads=12)
  text = dict(length=168, vocabulary=VOCABULARY, width=512, layers=12, heads=8)
  return fill(irra_torch.Clip(vision=dict(vision, stride=stride), **text, joint=512))


def irra_outputs(model, image, ids) -> dict[str, torch.Tensor]:
  tokens = dict(image=model.visual(image), text=model.encode_text(ids))
  rows = torch.arange(len(ids))
  at = dict(image=torch.zeros_like(rows), text=ids.argmax(dim=1))
  found = {}
  for side in ("image", "text"):
    feature = tokens[side][rows, at[side]]
    found[f"{side} feature"] = feature
    found[f"{side} unit feature"] = normalize(feature, dim=1)
    found[f"{side} tokens"] = tokens[side]
  return found


def expected(model, outputs: Callable, image, ids) -> dict[str, dict[str, np.ndarray]]:
  """By name: "f32" and "f64", both as float64."""
  found = {}
  for dtype in (torch.float32, torch.float64):
    model.to(dtype)
    with torch.no_grad():
      given = torch.from_numpy(image).to(dtype), torch.from_numpy(ids)
      out = {k: v.double().numpy() for k, v in outputs(model, *given).items()}
    found["f32" if dtype == torch.float32 else "f64"] = out
  model.float()
  return found


def ours(place: pathlib.Path, model_config: Mapping[str, Any], image, ids):
  """What the towers of the checkpoint at `place` give, as float64, by name."""
  config = dict(model_config, variant="B/16", activation="quick_gelu")
  params, report = towers.towers(
    files.read(place),
    build.settings(config),
    vocab_size=VOCABULARY,
    activation="quick_gelu",
  )
  if report.resized or report.kept:
    raise SystemExit(f"{place}: resized {report.resized}, unused {report.kept}")
  model = build.build(config, vocab_size=VOCABULARY)
  out = jax.jit(model.apply)({"params": params}, image, ids.astype(np.int32))
  names = {"feature": "{}_feature", "unit feature": "{}", "tokens": "{}_tokens"}
  return {
    f"{side} {kind}": np.asarray(out[names[kind].format(side)], np.float64)
    for side in ("image", "text")
    for kind in KINDS
  }


def table(case: str, found: Mapping[str, np.ndarray], torchs: Mapping) -> float:
  """Prints a case; returns its largest relative difference of unit rows and tokens."""
  print(case)
  print(LINE.format(*HEADER))
  worst = 0.0
  for name, value in found.items():
    f32, f64 = torchs["f32"][name], torchs["f64"][name]
    if value.shape != f32.shape or not np.isfinite(value).all():
      raise SystemExit(f"{case}, {name}: {value.shape}, expected {f32.shape}, finite")
    largest, difference = np.abs(f32).max(), np.abs(value - f32).max()
    relative = difference / largest
    if not name.endswith(" feature") or "unit" in name:
      worst = max(worst, relative)
    errors = np.abs(value - f64).max(), np.abs(f32 - f64).max()
    shown = (difference, largest, relative, *errors)
    formats = ("{:.1e}", "{:.4f}", "{:.1e}", "{:.1e}", "{:.1e}")
    shown = (f.format(v) for f, v in zip(formats, shown, strict=True))
    print(LINE.format(name, *shown), flush=True)
  return worst


def against_transformers(folder: pathlib.Path) -> float:
  model, (image, ids) = hugging_face(), inputs((224, 224), 77)
  torchs = expected(model, hugging_face_outputs, image, ids)
  model.save_pretrained(folder / "clip")
  del model
  config = dict(image_size=(224, 224), text_length=77)
  found = ours(folder / "clip", config, image, ids)
  return table("transformers.CLIPModel, 224x224, 77 tokens", found, torchs)


def against_irra(folder: pathlib.Path, stride: int, layout: str, suffix: str) -> float:
  model, (image, ids) = irra(stride), inputs((384, 128), 168)
  torchs = expected(model, irra_outputs, image, ids)
  prefix = "base_model." if layout == "irra" else ""
  state = {f"{prefix}{k}": v.contiguous() for k, v in model.state_dict().items()}
  place = folder / f"weights{suffix}"
  if suffix == ".pth":
    torch.save({"model": state}, place)
  else:
    save_file(state, place)
  del model, state
  config = dict(image_size=(384, 128), stride=stride, text_length=168)
  found = ours(place, config, image, ids)
  place.unlink()
  rows = f"384x128, stride {stride}, 168 tokens"
  return table(f"irra_torch.Clip, {rows}, {layout} names, {suffix}", found, torchs)


def main() -> int:
  started, worst = time.time(), []
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    worst.append(against_transformers(folder))
    for case in IRRA_CASES:
      worst.append(against_irra(folder, *case))
  print(f"\n{time.time() - started:.0f} s; largest relative difference of a unit")
  print(f"feature or a token: {max(worst):.1e} (at most {TOLERANCE:.0e})")
  return int(max(worst) > TOLERANCE)


if __name__ == "__main__":
  sys.exit(main())
