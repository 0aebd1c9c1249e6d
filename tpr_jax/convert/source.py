"""What a published checkpoint holds once read, and the error that says why not."""

import dataclasses
from typing import Any

import numpy as np

from tpr_jax.models.layers.adapter import Rules


class ConvertError(ValueError):
  """A checkpoint cannot be read, or does not fit: one paragraph for a person."""


@dataclasses.dataclass(frozen=True)
class Source:
  """Weights under the names of their file, and what the files beside them say.

  Attributes:
    place: where it came from, for messages.
    weights: float32 arrays; "module." prefixes and wrapping dictionaries are gone.
    layout: whose names they are: "huggingface", "openai" (OpenCLIP has the same),
      "irra" (OpenAI's under "base_model.", with heads beside them) or "tpr_jax".
    settings: `activation`, `epsilon`, `pixel_mean`, `pixel_std`, `vision_heads`,
      `text_heads`; `image_size` (height, width) that the towers were trained with,
      `stride` of its patches, `grid` (rows, columns) of the position table where that
      is no square, `filter` of the resize (data/transforms.py), `logit_scale` (a
      logarithm) where it is no leaf. A key is absent where the files do not say. A run
      of Swin + BERT has `model`, all fields of models/build.py, and `filter` alone.
    tokenizer_place: folder of vocab.json and merges.txt, or of tokenizer.json.
    tokenizer: the spec of the tokenizer (data/tokenizer.py), "" where unknown.
    detail: what a person wants to know beside the place: "step 375: ...".
    adapters: rules of those among the weights (models/adapters.py); () without any.
  """

  place: str
  weights: dict[str, np.ndarray]
  layout: str
  settings: dict[str, Any]
  tokenizer_place: str | None
  tokenizer: str = ""
  detail: str = ""
  adapters: Rules = ()
