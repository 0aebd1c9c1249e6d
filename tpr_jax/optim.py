"""Optimizer from config: Adam (Muon for matrices), parameter groups, decay, schedules.

The field's recipe (IRRA, arXiv:2303.12501, code; spec of CFAM) is torch's Adam:
`g + decay * w` enters the moments (L2), epsilon 1e-3 is added to sqrt(v), each group
has its own factor on the learning rate. optax's `scale_by_adam` has the same epsilon.
Muon (Jordan et al., 2024) replaces the update of a matrix by the nearest orthogonal
one, scaled to the size of Adam's (Liu et al., arXiv:2502.16982, Eq. 4), so that one
learning rate and one decay serve both.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from tpr_jax.core import tree

# (regex on the parameter's name, factor on the learning rate, factor on the decay)
Group = tuple[str, float, float]

KINDS = ("cosine", "linear", "step", "constant")
MUON_MOMENTUM = 0.95
MUON_RMS = 0.2  # root mean square of an entry of the update; Adam's is about the same


def make_schedule(
  *,
  lr: float,
  steps: int,
  steps_per_epoch: int,
  warmup_epochs: float,
  warmup_from: float,
  end: float = 0.0,
  kind: str,
  per: str,
) -> optax.Schedule:
  """Linear warm-up from `warmup_from * lr`, then down to `end * lr`, or constant.

  Args:
    steps: length of the run; the decay ends there.
    kind: after the warm-up: "cosine", "linear", "constant", or "step": linear, and from
      4 times the warm-up on half of it, from 7 times on a fifth (APTM's, MRA's code).
    per: "step": changes every iteration; "epoch": changes at the start of each epoch
      only, as IRRA's scheduler does.

  Raises:
    ValueError: unknown kind or per.
  """
  if kind not in KINDS:
    raise ValueError(
      f"optim.schedule.kind={kind!r}: expected one of {', '.join(KINDS)}"
    )
  if kind == "step" and not warmup_epochs:
    raise ValueError(
      "optim.schedule.kind='step' steps at 4 and 7 times the warm-up: set"
      " optim.schedule.warmup_epochs above 0"
    )
  if not 0 <= end <= 1 or (end and kind == "constant"):
    raise ValueError(
      f"optim.schedule.end={end}: expected a share of optim.lr from 0 to 1, and 0 for"
      " kind='constant', which does not fall"
    )
  if per not in ("step", "epoch"):
    raise ValueError(f"optim.schedule.per={per!r}: expected 'step' or 'epoch'")
  warmup = warmup_epochs * steps_per_epoch
  total = float(steps)

  def schedule(step):
    position = jnp.asarray(step, jnp.float32)
    if per == "epoch":
      position = jnp.floor(position / steps_per_epoch) * steps_per_epoch
    rise = jnp.clip(position / max(warmup, 1.0), 0.0, 1.0)
    factor = warmup_from + (1.0 - warmup_from) * rise if warmup else 1.0
    if kind != "constant":
      left = jnp.clip((total - position) / max(total - warmup, 1.0), 0.0, 1.0)
      # (1 + cos(pi (1 - left))) / 2, without cancelling digits at the end of the run.
      cosine = kind == "cosine"
      decayed = jnp.sin(0.5 * math.pi * left) ** 2 if cosine else left
      if kind == "step":
        part = jnp.where(position < 7 * warmup, 0.5, 0.2)
        decayed = left * jnp.where(position < 4 * warmup, 1.0, part)
      factor = jnp.where(position < warmup, factor, end + (1.0 - end) * decayed)
    return lr * factor

  return schedule


def group_factors(groups: Sequence[Group], name: str) -> tuple[float, float]:
  """(learning-rate factor, decay factor): the product over all groups that match."""
  lr, decay = 1.0, 1.0
  for pattern, lr_factor, decay_factor in groups:
    if re.search(pattern, name):
      lr, decay = lr * lr_factor, decay * decay_factor
  return lr, decay


def _add_decay(weight_decay: float, groups: Sequence[Group]) -> Any:
  def add(updates, params):
    def one(name, update, param):
      factor = weight_decay * group_factors(groups, name)[1]
      return update + factor * param if factor else update

    return tree.map_named(one, updates, params)

  return optax.stateless(add)


def _scale_groups(groups: Sequence[Group]) -> Any:
  def scale(updates, _):
    return tree.map_named(lambda n, u: u * group_factors(groups, n)[0], updates)

  return optax.stateless(scale)


def _muon() -> optax.GradientTransformation:
  """Muon's update of matrices [in, out]: momentum, made orthogonal, of Adam's size."""

  def dimensions(updates):
    return jax.tree.map(lambda _: contrib.MuonDimensionNumbers(0, 1), updates)

  def resize(updates, _):
    # An orthogonal [m, n] has entries of mean square 1 / max(m, n).
    return jax.tree.map(lambda u: u * (MUON_RMS * max(u.shape) ** 0.5), updates)

  return optax.chain(
    contrib.scale_by_muon(beta=MUON_MOMENTUM, weight_dimension_numbers=dimensions),
    optax.stateless(resize),
  )


def _precondition(config: Mapping[str, Any], params: Any) -> Any:
  """Adam, with Muon for the matrices whose name matches `muon`."""
  adam = optax.scale_by_adam(b1=config["b1"], b2=config["b2"], eps=config["eps"])
  if not config["muon"]:
    return adam

  def label(name, leaf):
    matrix = len(leaf.shape) == 2 and re.search(config["muon"], name)
    return "muon" if matrix else "adam"

  def labels(params):
    return tree.map_named(label, params)

  if "muon" not in jax.tree.leaves(labels(params)):
    known = ", ".join(tree.names(params)[:4])
    raise ValueError(
      f"optim.muon={config['muon']!r} matches the name of no matrix; names look like"
      f" {known}"
    )
  # A function: where some parameters are frozen, it sees the tree without them.
  return optax.partition({"muon": _muon(), "adam": adam}, labels)


def make_optimizer(
  config: Mapping[str, Any],
  params: Any,
  *,
  steps: int,
  steps_per_epoch: int,
  complete: Callable[[], Any] | None = None,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """(transformation, learning-rate schedule) from the `optim` part of a config.

  A group whose learning-rate factor is 0 is frozen: no update, no optimizer state.

  Args:
    config: name "adam", lr, b1, b2, eps, weight_decay, decay "l2" | "decoupled",
      clip (global norm, 0: off), groups, schedule (see `make_schedule`), muon (regex:
      matrices of these names take Muon's update instead of Adam's; "": none).
    params: tree of arrays or shapes; only names and shapes are read.
    complete: makes the tree of the model with every head; default: `params`. A group
      may be for a head that this run leaves out.

  Raises:
    ValueError: unknown names, or a group that matches no parameter.
  """
  if config["name"] != "adam":
    raise ValueError(f"optim.name={config['name']!r}: expected 'adam'")
  if config["decay"] not in ("l2", "decoupled"):
    raise ValueError(f"optim.decay={config['decay']!r}: expected 'l2' or 'decoupled'")
  groups = tuple(tuple(group) for group in config["groups"])
  for group in groups:
    if len(group) != 3:
      raise ValueError(
        f"optim.groups: {group!r} is not (regex, learning-rate factor, decay factor)"
      )
  unused = tree.unused_rules(groups, params)
  if unused and complete is not None:
    unused = tree.unused_rules([(pattern,) for pattern in unused], complete())
  if unused:
    known = ", ".join(tree.names(params)[:4])
    raise ValueError(
      f"optim.groups: {unused[0]!r} matches no parameter; names look like {known}"
    )
  schedule = make_schedule(
    lr=config["lr"],
    steps=steps,
    steps_per_epoch=steps_per_epoch,
    **dict(config["schedule"]),
  )
  decay = [_add_decay(config["weight_decay"], groups)] if config["weight_decay"] else []
  chain = [optax.clip_by_global_norm(config["clip"])] if config["clip"] else []
  adapt = [_precondition(config, params)]
  chain += decay + adapt if config["decay"] == "l2" else adapt + decay
  chain += [_scale_groups(groups), optax.scale_by_learning_rate(schedule)]
  labels = tree.map_named(
    lambda name, _: "train" if group_factors(groups, name)[0] else "frozen", params
  )
  if "frozen" not in jax.tree.leaves(labels):
    return optax.chain(*chain), schedule
  transform = optax.partition(
    {"train": optax.chain(*chain), "frozen": optax.set_to_zero()}, labels
  )
  return transform, schedule
