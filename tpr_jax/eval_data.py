"""The dataset behind one evaluation of a config: to score it, and to show it."""

from ml_collections import ConfigDict

from tpr_jax.data import build
from tpr_jax.data.record import Dataset


def dataset(config: ConfigDict, name: str) -> Dataset:
  """The dataset of one entry of `config.evals`; JAX is not needed.

  Raises:
    DatasetError: it cannot be used; says what was looked for.
  """
  entry, data = config.evals[name], config.data
  options = entry.options.to_dict()
  if not entry.name or entry.name == data.name:
    options = {**data.options.to_dict(), **options}
  return build.dataset(
    entry.name or data.name, entry.root or data.root, entry.split, options
  )
