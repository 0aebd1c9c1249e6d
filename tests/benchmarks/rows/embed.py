"""Pictures and texts to features, without gradients: a gallery, and queries.

`images` and `texts`: the same arrays through both sides, texts padded to the length of
the recipe. `queries`: captions of CUHK-PEDES' length, from text on, as `encode_texts`
`tpr_jax.load(...)` takes them, which pads each to one of a few lengths.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tests.benchmarks import sizes, steps, suite
from tests.benchmarks.rows import train
from tpr_jax import run_weights
from tpr_jax.data import tokenizer
from tpr_jax.encoding import Encoder
from tpr_jax.models import build
from tpr_jax.pretrained import Pretrained

BATCH, BATCHES = 16, 1  # of a turn
GOAL = 1.2


class Theirs:
  """The PyTorch towers of some parameters, asked as a search asks them."""

  def __init__(self, built: Any, params: Any, config: Any):
    torch = suite.torch_or_none()
    from tests.benchmarks.pytorch import cfam, weights
    from tpr_jax import objectives

    self._torch = torch
    active = objectives.active(config.losses)
    self.model = cfam.Cfam(built.model, active, config.objective.temperature)
    self.model.load_state_dict(weights.state(params))
    self.model.eval()

  def rows(self, side: str, arrays: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] or int32 [n, L] -> float32 [n, D]."""
    torch, encode = self._torch, getattr(self.model, f"encode_{side}")
    with torch.inference_mode():
      found = [
        encode(torch.tensor(arrays[at : at + BATCH]))
        for at in range(0, len(arrays), BATCH)
      ]
      return torch.cat(found).numpy()


def drawn(shapes: Any) -> Any:
  """Random parameters of these shapes, whose sums are of size 1."""
  rng = np.random.default_rng(0)
  draw = lambda x: rng.standard_normal(x.shape, np.float32) * x.shape[-1] ** -0.5
  return jax.tree.map(draw, shapes)


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """embed/images, embed/texts, embed/queries."""
  suite.torch_or_none()
  config, size = sizes.config(options.size), options.size
  built, mesh = steps.build(config, classes=sizes.CLASSES[size])
  params = drawn(built.plan.shapes.params)
  other, encoder = Theirs(built, params, config), Encoder(built.model, mesh)
  length, count = config.text.length, BATCH * BATCHES
  arrays = steps.random_rows(count, length, config.model.image_size, steps.CLIP)
  for side, unit, encode in (
    ("image", "images", encoder.images),
    ("text", "texts", encoder.texts),
  ):
    acts = {
      "ours": lambda e=encode, s=side: e(params, arrays[s], BATCH),
      "PyTorch": lambda s=side: other.rows(s, arrays[s]),
    }
    of = f", {length} tokens" if side == "text" else ""
    about = f"{unit} to features, CFAM {size}, float32, CPU{of}"
    yield _row(f"embed/{unit}", about, acts, count, unit, options)
  fields = build.settings(run_weights.model_fields(config, {}))
  words = tokenizer.build("instant")
  towers = {name: params[name] for name in ("visual", "text")}
  ours = Pretrained(towers, fields, words, batch=BATCH)
  texts = train.captions()[: 2 * count]
  yield _row(
    "embed/queries",
    f"captions of 23.6 words, CFAM {size}, from text to features",
    {
      "ours": lambda: ours.encode_texts(texts, progress=False),
      "PyTorch": lambda: other.rows("text", words.encode(texts, length)[0]),
    },
    len(texts),
    "texts",
    options,
  )


def _row(name, what, acts, count, unit, options) -> suite.Row:
  """Times two sides in turn, and sees that they give the same rows."""
  first = [act() for act in acts.values()]
  apart = float(abs(first[0] - first[1]).max())
  if not apart < 1e-3:
    raise AssertionError(f"{name}: the two sides differ by {apart:.1e}")
  found = steps.in_turn(
    {side: lambda act=act: steps.clocked(act) for side, act in acts.items()},
    options.rounds,
  )
  ratio = found["PyTorch"] / found["ours"]
  rate = {k: f"{count / np.median(v[:, 0]):,.1f} {unit}/s" for k, v in found.items()}
  return suite.Row(
    name,
    what,
    rate["ours"],
    rate["PyTorch"],
    ratio[:, 0].tolist(),
    goal=GOAL,
    of_processor=ratio[:, 1].tolist(),
    raw={side: seconds.tolist() for side, seconds in found.items()} | dict(apart=apart),
  )
