"""Adapters of dense layers: a frozen kernel, and few numbers beside it that train.

Every dense layer multiplies by `product`, which asks whether a rule of the model is for
it. The kernel keeps its name and shape; what changes it lies below it:

  NAME/adapter/a, b        [in, r], [r, out]
  NAME/adapter/magnitude   [in, 1] or [1, out], where the method normalises
  NAME/adapter/alpha, beta []  where they are learnt

At the start B is 0 and the magnitude is the norm of the kernel: the layer is what it
was. The formula is in ops/lowrank.py; models/adapters.py reads rules and merges.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tpr_jax.core import numerics, tree
from tpr_jax.ops import lowrank

NAME = "adapter"


@dataclasses.dataclass(frozen=True)
class Spec:
  """What one rule puts beside a layer; `models.adapters.spec` fills in a method.

  Attributes:
    method: "lora", "dora" or "wora": whose defaults were taken.
    rank: r.
    alpha_init, beta_init: scale of AB and of the kernel, at the start or always.
    norm_per: "input" or "output": what has one magnitude each; "": no magnitude.
    learn_scale, learn_base_scale: whether alpha, beta are learnt.
    detach_norm: the norm is a constant in the backward pass.
    scale_by_rank: alpha is divided by r.
    a_init: of A: "normal", N(0, 1 / r), or "kaiming", U(-1, 1) / sqrt(in).
    m_relative: the magnitude is a factor on the norms of the kernel, starting at 1.
    dropout: of what A multiplies, in training.
  """

  method: str
  rank: int
  alpha_init: float
  beta_init: float
  norm_per: str
  learn_scale: bool
  learn_base_scale: bool
  detach_norm: bool
  scale_by_rank: bool
  a_init: str
  m_relative: bool
  dropout: float


# (regex on a layer's name, spec); the first that matches counts.
Rules = tuple[tuple[str, Spec], ...]

_RULES: contextvars.ContextVar[Rules] = contextvars.ContextVar("adapters", default=())


@contextlib.contextmanager
def in_use(rules: Rules) -> Iterator[None]:
  """Layers that are called here have the adapters of these rules."""
  before = _RULES.set(rules)
  try:
    yield
  finally:
    _RULES.reset(before)


class Adaptable:
  """Of a whole model, before nn.Module: its field `adapters` holds for all layers.

  Layers know their own names below the model and nothing of its fields, also where
  Flax's transformations have put a copy of a module between them."""

  adapters: Rules

  @nn.nowrap
  def apply(self, *args: Any, **kwargs: Any) -> Any:
    """As `nn.Module.apply`."""
    with in_use(self.adapters):
      return super().apply(*args, **kwargs)

  @nn.nowrap
  def init(self, *args: Any, **kwargs: Any) -> Any:
    """As `nn.Module.init`."""
    with in_use(self.adapters):
      return super().init(*args, **kwargs)


def _same(x: jax.Array) -> jax.Array:
  return x


def product(
  layer: nn.Module,
  x: jax.Array,
  kernel: jax.Array,
  dtype: str,
  arrange: Callable[[jax.Array], jax.Array] = _same,
  narrow: bool = False,
) -> jax.Array:
  """x W of a layer, its kernel adapted where a rule in use says so.

  Args:
    x: [..., in].
    kernel: the layer's parameter [in, out].
    arrange: [n, out] -> the same with columns in another order, that of the result.
    narrow: as in `numerics.rows_times`.

  Returns:
    [..., out], float32 or, with `narrow`, in `dtype`.

  Raises:
    ValueError: a rank above the layer's smaller size.
  """
  spec = tree.first_match(_RULES.get(), "/".join(layer.path))
  if spec is not None:
    y = Adapter(spec, dtype, name=NAME)(x, kernel, arrange)
    return y.astype(dtype) if narrow else y
  return numerics.rows_times(x, arrange(kernel), dtype, narrow)


class Adapter(nn.Module):
  """The parameters beside one kernel; see the top of this file.

  In training (where there is an rng "dropout") what A multiplies is dropped out."""

  spec: Spec
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: jax.Array, kernel: jax.Array, arrange: Callable[[jax.Array], jax.Array]
  ) -> jax.Array:
    """As `product`."""
    spec = self.spec
    found = factors(spec, kernel, self._leaves(kernel))
    found = found._replace(b=arrange(found.b))
    if spec.norm_per == "output":
      found = found._replace(magnitude=arrange(found.magnitude))
    low_x = None
    if spec.dropout and self.has_rng("dropout"):
      low_x = nn.Dropout(spec.dropout, deterministic=False)(x)
    return lowrank.product(
      x,
      arrange(kernel),
      found,
      per=spec.norm_per,
      detach=spec.detach_norm,
      dtype=self.dtype,
      low_x=low_x,
    )

  def _leaves(self, kernel: jax.Array) -> dict[str, jax.Array]:
    spec, (size, width) = self.spec, kernel.shape
    if spec.rank > min(size, width):
      raise ValueError(
        f"model.adapters: rank={spec.rank} of {'/'.join(self.path[:-1])}, whose kernel"
        f" is {size} x {width}: no change of it has a rank above {min(size, width)}"
      )
    make = dict(
      a=lambda key: first_a(key, size, spec),
      b=lambda _: jnp.zeros((spec.rank, width), jnp.float32),
    )
    if spec.learn_scale:
      make["alpha"] = lambda _: jnp.float32(spec.alpha_init)
    if spec.learn_base_scale:
      make["beta"] = lambda _: jnp.float32(spec.beta_init)
    if spec.norm_per:
      make["magnitude"] = lambda _: first_magnitude(kernel, spec)
    return {name: self.param(name, made) for name, made in make.items()}


def factors(
  spec: Spec, kernel: jax.Array, leaves: Mapping[str, jax.Array]
) -> lowrank.Factors:
  """The leaves of an adapter as the formula has them, for their kernel [in, out]."""
  alpha = leaves.get("alpha", spec.alpha_init)
  magnitude = leaves.get("magnitude")
  if spec.m_relative:
    magnitude = magnitude * lowrank.norms(kernel, spec.norm_per)
  return lowrank.Factors(
    leaves["a"],
    leaves["b"],
    alpha / spec.rank if spec.scale_by_rank else alpha,
    leaves.get("beta", spec.beta_init),
    magnitude,
  )


def leaf_names(spec: Spec) -> set[str]:
  """Names of the leaves of an adapter."""
  made = {"a", "b"}
  made |= {"alpha"} if spec.learn_scale else set()
  made |= {"beta"} if spec.learn_base_scale else set()
  return made | ({"magnitude"} if spec.norm_per else set())


def first_a(key: jax.Array, size: int, spec: Spec) -> jax.Array:
  """float32 [size, r], at random as `spec.a_init` says."""
  shape = (size, spec.rank)
  if spec.a_init == "normal":
    return jax.random.normal(key, shape, jnp.float32) * spec.rank**-0.5
  return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0) * size**-0.5


def first_magnitude(kernel: jax.Array, spec: Spec) -> jax.Array:
  """The magnitude that leaves a kernel [in, out] as it is while B is 0."""
  found = lowrank.norms(kernel, spec.norm_per)
  return jnp.ones_like(found) if spec.m_relative else found
