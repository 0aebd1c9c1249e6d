"""What a published checkpoint holds once read, and the error that says why not."""

import dataclasses
from typing import Any

import numpy as np


class ConvertError(ValueError):
  """A checkpoint cannot be read, or does not fit: one paragraph for a person."""


@dataclasses.dataclass(frozen=True)
class Source:
  """Weights under the names of their file, and what the files beside them say.

  Attributes:
    place: where it came from, for messages.
    weights: float32 arrays; "module." prefixes and wrapping dictionaries are gone.
    layout: whose names they are: "huggingface", "openai" (OpenCLIP has the same) or
      "irra" (OpenAI's under "base_model.", with heads beside them).
    settings: `activation`, `epsilon`, `pixel_mean`, `pixel_std`, `vision_heads`,
      `text_heads`; a key is absent where the files do not say.
    tokenizer_place: folder of vocab.json and merges.txt, or of tokenizer.json.
  """

  place: str
  weights: dict[str, np.ndarray]
  layout: str
  settings: dict[str, Any]
  tokenizer_place: str | None
