"""Names of leaves, and rules that pick leaves by a regular expression on the name."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np


def leaf_name(path: Sequence[Any]) -> str:
  """The key path that `jax.tree_util` hands out -> "visual/block_0/attn/kernel"."""
  parts = []
  for key in path:
    for attribute in ("key", "name", "idx"):
      if hasattr(key, attribute):
        parts.append(str(getattr(key, attribute)))
        break
    else:
      parts.append(str(key))
  return "/".join(parts)


def map_named(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
  """`jax.tree.map` whose function also gets the name: fn(name, leaf, *leaves)."""
  return jax.tree_util.tree_map_with_path(
    lambda path, *leaves: fn(leaf_name(path), *leaves), tree, *rest
  )


def names(tree: Any) -> list[str]:
  """Names of all leaves, in tree order."""
  return [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def flat(tree: Any) -> dict[str, Any]:
  """Name -> leaf, in tree order."""
  return dict(zip(names(tree), jax.tree.leaves(tree), strict=True))


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every leaf."""
  return {name: tuple(leaf.shape) for name, leaf in flat(tree).items()}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """{"visual/kernel": x} -> {"visual": {"kernel": x}}: the inverse of `flat`."""
  tree: dict[str, Any] = {}
  for name, value in leaves.items():
    *folders, last = name.split("/")
    at = tree
    for folder in folders:
      at = at.setdefault(folder, {})
    at[last] = value
  return tree


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
  """`tree` with the leaves of these names in place of its own.

  Raises:
    KeyError: a name that is no leaf's.
  """
  if unknown := sorted(set(leaves) - set(names(tree))):
    raise KeyError(f"{unknown[0]!r} is no leaf of the tree")
  return map_named(lambda name, leaf: leaves.get(name, leaf), tree)


def without(tree: Any, names: Collection[str]) -> Any:
  """Nested dicts without the leaves of these names; `tree` itself where there are none.

  Raises:
    KeyError: a name that is no leaf's.
  """
  if not names:
    return tree
  leaves = flat(tree)
  if unknown := sorted(set(names) - set(leaves)):
    raise KeyError(f"{unknown[0]!r} is no leaf of the tree")
  return nested({name: leaf for name, leaf in leaves.items() if name not in names})


def like(tree: Any, part: Any) -> Any:
  """The leaves of `tree` that `part` has too, as a tree like `part`."""
  leaves = flat(tree)
  return map_named(lambda name, _: leaves[name], part)


def first_match(rules: Sequence[tuple[str, Any]], name: str) -> Any:
  """The value of the first rule whose regex is found in `name`; None without one."""
  for pattern, value in rules:
    if re.search(pattern, name):
      return value
  return None


def unused_rules(rules: Sequence[Sequence[Any]], tree: Any) -> list[str]:
  """Patterns that match no leaf of `tree`: nearly always a misspelling."""
  known = names(tree)
  return [
    rule[0] for rule in rules if not any(re.search(rule[0], name) for name in known)
  ]


def count(tree: Any) -> int:
  """Number of array elements in all leaves (shapes are enough)."""
  return int(sum(np.prod(leaf.shape, dtype=np.int64) for leaf in jax.tree.leaves(tree)))
