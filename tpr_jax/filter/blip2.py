"""BLIP-2's contrastive head as a scorer, as the published filter uses it.

Li et al., arXiv:2301.12597, stage 1: 32 query outputs for a picture, the [CLS] output
of the text alone for a caption, projected and of length 1. The score is the contrastive
one (ITC), not the matching head's. Runs through transformers, with the torch extra, on
the first CUDA device that this process is meant to have, or else on the CPU.

Preprocessing is that of LAVIS (`blip_image_eval`, `blip_caption`): pictures squashed to
a square, whatever their shape; captions in lower case, without . ! " ( ) * # : ; ~, of
their first 50 words.
"""

import importlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from tpr_jax.filter.problems import FilterError
from tpr_jax.filter.settings import Scorer as Asked

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
WORDS = 50
_SPACE = re.compile(r"[.!\"()*#:;~]")
_LONGEST = 512  # positions of BERT; fifty words seldom take a fifth of them


def clean(caption: str) -> str:
  """A caption as LAVIS's `blip_caption` leaves it."""
  return " ".join(_SPACE.sub(" ", caption.lower()).split()[:WORDS])


class Blip2:
  """A scorer (scorers.py).

  Args:
    model: `transformers.Blip2ForImageTextRetrieval`, ready for evaluation.
    words: its tokenizer.
    batch: rows at a time.
  """

  size = None  # a picture that is drawn is drawn as it is, and then squashed

  def __init__(self, model: Any, words: Any, batch: int):
    self.model, self.words, self.batch = model, words, batch
    self._square = model.config.vision_config.image_size

  @classmethod
  def load(cls, asked: Asked) -> "Blip2":
    """Raises FilterError: torch is not there, or the weights cannot be had."""
    try:
      torch = _torch()
    except ImportError as error:
      raise FilterError(
        "--config.scorer.kind=blip2_itc needs torch, which is not installed:"
        " pip install 'tpr_jax[torch]'; or score with --config.scorer.kind=towers"
        f" ({error})"
      ) from error
    from transformers import AutoTokenizer, Blip2ForImageTextRetrieval

    dtype = getattr(torch, asked.dtype)
    try:
      words = AutoTokenizer.from_pretrained(asked.place)
      model = Blip2ForImageTextRetrieval.from_pretrained(asked.place, dtype=dtype)
    except (OSError, ValueError) as error:
      raise FilterError(
        f"--config.scorer.place={asked.place}: no BLIP-2 with an image-text retrieval"
        " head can be loaded from there; expected a folder or hub id such as"
        f" Salesforce/blip2-itm-vit-g ({error})"
      ) from error
    return cls(model.to(_device()).eval(), words, asked.batch)

  def __repr__(self) -> str:
    config = self.model.config
    return (
      f"BLIP-2 ITC ({self._square} x {self._square} pixels,"
      f" {config.num_query_tokens} queries, {config.image_text_hidden_size} dimensions,"
      f" {self.model.device}, {self.model.dtype})"
    )

  def prepare(self, picture: np.ndarray | None) -> np.ndarray:
    """-> uint8 [S, S, 3]."""
    shape = (self._square, self._square)
    if picture is None:
      return np.zeros((*shape, 3), np.uint8)
    image = Image.fromarray(picture).resize(shape, Image.Resampling.BICUBIC)
    return np.asarray(image)

  def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
    """N pictures uint8 [S, S, 3] -> float32 [N, Q, D]."""
    torch = _torch()

    def encode(rows: list[np.ndarray]) -> Any:
      scaled = (np.stack(rows).astype(np.float32) / 255 - MEAN) / STD
      pixels = torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)
      pixels = pixels.to(self.model.device, self.model.dtype)
      model, seen = self.model, self.model.vision_model(pixel_values=pixels)[0]
      found = model.qformer(
        query_embeds=model.query_tokens.expand(len(rows), -1, -1),
        encoder_hidden_states=seen,
        encoder_attention_mask=torch.ones(
          seen.shape[:-1], dtype=torch.long, device=seen.device
        ),
      )[0]
      return model.vision_projection(found.to(model.vision_projection.weight.dtype))

    return self._all(encode, list(prepared))

  def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
    """N texts -> float32 [N, D]."""

    def encode(rows: list[str]) -> Any:
      model = self.model
      given = self.words(
        rows,
        padding=True,
        truncation=True,
        max_length=_LONGEST,
        return_tensors="pt",
      ).to(model.device)
      found = model.qformer(
        query_embeds=model.embeddings(input_ids=given.input_ids),
        query_length=0,
        attention_mask=given.attention_mask,
      )[0][:, 0]
      return model.text_projection(found.to(model.text_projection.weight.dtype))

    return self._all(encode, list(map(clean, texts)))

  def report(self, texts: Sequence[str]) -> str:
    """How many of the texts are cut, and to which length, as a line."""
    cut = sum(len(_SPACE.sub(" ", text).split()) > WORDS for text in texts)
    return f"{cut:,} of {len(texts):,} captions exceed {WORDS} words"

  def _all(self, encode: Any, rows: list[Any]) -> np.ndarray:
    """Rows of length 1, in float32, of batches that are filled up to one size."""
    torch, found = _torch(), []
    with torch.inference_mode():
      for start in range(0, len(rows), self.batch):
        part = rows[start : start + self.batch]
        whole = part + part[:1] * (self.batch - len(part))
        unit = torch.nn.functional.normalize(encode(whole).float(), dim=-1)
        found.append(unit[: len(part)].cpu().numpy())
    return np.concatenate(found)


def _torch() -> Any:
  """The module, imported where it is needed: the core does without it."""
  return importlib.import_module("torch")


def _device() -> str:
  """Processes of one machine share its devices out among them."""
  torch = _torch()
  if not torch.cuda.is_available():
    return "cpu"
  return f"cuda:{jax.process_index() % torch.cuda.device_count()}"
