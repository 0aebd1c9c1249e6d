"""Which parameters train, and which are frozen: no gradient, no optimizer state.

Frozen are the kernels and biases below adapters (models/adapters.py), and what a regex
of `config.optim.freeze` is found in, adapters excepted: they are there to train.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax

from tpr_jax.core import tree
from tpr_jax.models import adapters
from tpr_jax.models.layers.adapter import Rules

_SHOWN = 4


def frozen(
  patterns: Sequence[str],
  rules: Rules,
  params: Any,
  complete: Callable[[], Any] | None = None,
) -> frozenset[str]:
  """Names of the leaves of `params` that do not train.

  Args:
    patterns: `config.optim.freeze`.
    rules: of the model's adapters.
    params: tree of arrays or shapes.
    complete: makes the tree of the model with every head; default: `params`. A pattern
      may be for a head that this run leaves out.

  Raises:
    ValueError: a pattern that matches nothing (names the nearest), or no leaf is left.
  """
  names, adapted = tree.names(params), adapters.frozen(rules, params)
  wrong = tree.unused_rules([(pattern,) for pattern in patterns], params)
  if wrong and complete is not None:
    params = complete()
    wrong = tree.unused_rules([(pattern,) for pattern in wrong], params)
  if wrong:
    near = difflib.get_close_matches(wrong[0], tree.names(params), n=3, cutoff=0.0)
    raise ValueError(
      f"optim.freeze: {wrong[0]!r} matches no parameter; the nearest are"
      f" {', '.join(near)}"
    )
  asked = {
    name
    for name in names
    if adapters.of_leaf(name) is None and any(re.search(p, name) for p in patterns)
  }
  found = frozenset(asked | adapted)
  if len(found) == len(names):
    raise ValueError(f"optim.freeze={tuple(patterns)}: nothing is left that trains")
  return found


def count(frozen: Collection[str], params: Any) -> int:
  """How many numbers train."""
  return tree.count(tree.without(params, frozen))


def describe(frozen: Collection[str], state: Any) -> str:
  """One line: how much of a state (core/types.py) trains, and the optimizer's size."""
  total, trained = tree.count(state.params), count(frozen, state.params)
  size = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state.opt_state)
  )
  return (
    f"{trained:,} of {total:,} parameters train ({trained / total:.1%}); the others"
    f" have no gradient, and the optimizer {size / 2**20:,.1f} MiB of state."
  )


def check_loaded(frozen: Iterable[str], loaded: Collection[str], place: str) -> None:
  """Refuses frozen weights that stayed random: they would never be anything else.

  Args:
    loaded: names of the leaves that came from a file.
    place: of the files, for the message; "": there was none.

  Raises:
    ValueError: some did not; says which.
  """
  random = sorted(set(frozen) - set(loaded))
  if not random:
    return
  more = f" and {len(random) - _SHOWN} more" if len(random) > _SHOWN else ""
  missing = f"{place} has none of them" if place else "model.init_from names no weights"
  raise ValueError(
    f"{len(random)} frozen leaves would stay random: {', '.join(random[:_SHOWN])}{more}"
    f" ({missing}). Start from weights that have them (--config.model.init_from=...),"
    " train them (optim.freeze, model.adapters), or, for a control with random frozen"
    " weights, set --config.model.init_random=True"
  )
