"""What a program needs to know of the data and the tokenizer, without either."""

from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from tpr_jax import run_weights
from tpr_jax.data import build as data_build
from tpr_jax.data import published, tokenizer
from tpr_jax.plan.problems import PlanError

# CLIP's vocabulary (Radford et al., arXiv:2103.00020): 512 bytes, 48,894 merges, 2
# special tokens. Mask, start and end as in data/tokenizer.py.
CLIP_VOCABULARY = 49_408
_CLIP = SimpleNamespace(
  vocab_size=CLIP_VOCABULARY,
  mask_id=CLIP_VOCABULARY - 3,
  start_id=CLIP_VOCABULARY - 2,
  end_id=CLIP_VOCABULARY - 1,
)


def vocabulary(config: ConfigDict) -> Any:
  """vocab_size, mask_id, start_id and end_id of the config's tokenizer.

  CLIP's routes need no file; "auto" is CLIP's, whatever `model.init_from` may bring.

  Raises:
    TokenizerError: the files of any other tokenizer cannot be read.
  """
  spec = run_weights.tokenizer_spec(config, "")
  if spec == "instant" or spec.partition(":")[0] in ("clip", "merges"):
    return _CLIP
  return tokenizer.build(spec)


def captions(config: ConfigDict, classes: int) -> int:
  """Captions of the training split: published ones, or one for each identity."""
  counts = published.COUNTS.get(config.data.name, {}).get(config.data.train)
  return counts.captions[0] if counts else classes


def identities(config: ConfigDict, given: int | None) -> tuple[int, str]:
  """(training identities, where the number is from).

  Raises:
    PlanError: nothing is published about the dataset, and no number was given.
  """
  data = config.data
  if given is not None:
    return given, "--classes"
  if data.name == "rendered":
    options = data.options.to_dict()
    drawn = data_build.dataset(data.name, data.root, data.train, options)
    return len(drawn.identities), "the rendered people of the config"
  counts = published.COUNTS.get(data.name, {}).get(data.train)
  if counts is None:
    raise PlanError(
      f"nothing is published about data.name={data.name}, split {data.train!r}: give"
      " the number of training identities with --classes=N"
    )
  whole = counts.identities[0]
  held = 0 if data.val else round(data.val_share * whole)
  return whole - held, "the published counts" + (", less validation" if held else "")
