"""A language model that runs here, through transformers (and the torch extra)."""

import importlib.util
import threading
import time
from collections.abc import Sequence

from tpr_jax.curate.answers import Answer
from tpr_jax.curate.problems import CurateError, NoAnswer
from tpr_jax.curate.requests import Request
from tpr_jax.curate.settings import Rewriter


class Local:
  """An instruction-tuned model with a chat template, from a folder or a hub id.

  PyTorch does the work inside transformers; nothing of it is imported here.

  Raises:
    CurateError: PyTorch, the model or its chat template is missing, or a setting is
      one that only endpoints know.
  """

  workers = 1

  def __init__(self, settings: Rewriter):
    if importlib.util.find_spec("torch") is None:
      raise CurateError(
        f"rewriters.{settings.key}.kind is 'local', which needs PyTorch:"
        " pip install 'tpr_jax[torch]', or ask an endpoint"
      )
    if settings.extra:
      raise CurateError(f"rewriters.{settings.key}.extra is for endpoints alone")
    import transformers

    self.settings, self.batch = settings, settings.batch
    self._seed = transformers.set_seed
    device = settings.device
    if device == "auto":
      device = "cuda" if transformers.utils.is_torch_cuda_available() else "cpu"
    try:
      self._words = transformers.AutoTokenizer.from_pretrained(
        settings.model, padding_side="left"
      )
      self._model = transformers.AutoModelForCausalLM.from_pretrained(
        settings.model, dtype="auto"
      ).to(device)
    except (OSError, ValueError, RuntimeError) as error:
      raise CurateError(
        f"{settings.model}: no model that can be used: {error}"
      ) from error
    self._model.eval()
    if not self._words.chat_template:
      raise CurateError(
        f"{settings.model} has no chat template: take an instruction-tuned model"
      )
    if self._words.pad_token_id is None:
      self._words.pad_token = self._words.eos_token

  def answer(self, requests: Sequence[Request], stop: threading.Event) -> list[Answer]:
    """Answers to a batch; `stop` is looked at between batches only."""
    del stop
    sampling, began = requests[0].sampling, time.monotonic()
    inputs = self._words.apply_chat_template(
      [list(request.messages) for request in requests],
      add_generation_prompt=True,
      padding=True,
      return_tensors="pt",
      return_dict=True,
    ).to(self._model.device)
    options = _options(sampling)
    self._seed(requests[0].seed)
    try:
      rows = self._model.generate(
        **inputs, **options, pad_token_id=self._words.pad_token_id
      )[:, inputs["input_ids"].shape[1] :].tolist()
    except RuntimeError as error:  # out of memory, mostly
      raise NoAnswer(
        f"{self.settings.model}: {error} (batches of {self.batch}:"
        f" rewriters.{self.settings.key}.batch)",
        hopeless=True,
      ) from error
    seconds = (time.monotonic() - began) / len(requests)
    return [self._answer(row, seconds) for row in rows]

  def _answer(self, row, seconds):
    ends = self._model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {self._words.eos_token_id}
    position = next((i for i, token in enumerate(row) if token in ends), None)
    text = self._words.decode(row[:position], skip_special_tokens=True)
    finish = "length" if position is None else "stop"
    return Answer(text, finish, self.settings.model, seconds)


def _options(sampling):
  """How to draw; what is negative is left to the model's own settings."""
  options = dict(max_new_tokens=sampling["max_tokens"])
  if sampling["temperature"] == 0:
    return dict(options, do_sample=False)
  if sampling["temperature"] > 0:
    options |= dict(do_sample=True, temperature=sampling["temperature"])
  if sampling["top_p"] >= 0:
    options["top_p"] = sampling["top_p"]
  return options
