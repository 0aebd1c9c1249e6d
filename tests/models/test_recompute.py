"""What is computed again on the way back: the same numbers, and less memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.models.layers import recompute
from tpr_jax.models.layers.block import Blocks
from tpr_jax.models.layers.dense import Dense
from tpr_jax.models.layers.mlp import Mlp

ROWS, WIDTH, LAYERS = 6, 16, 5


class Branch(nn.Module):
  """Dense(tanh(x)), its inside kept or computed again."""

  again: bool

  @nn.compact
  def __call__(self, x, gate=None):
    def run(dense, x, gate):
      y = dense(jnp.tanh(x))
      return y if gate is None else jnp.where(gate, y, 0.0)

    run = recompute.recomputed(run) if self.again else run
    return run(Dense(WIDTH, name="dense"), x, gate)


def drawn(*shape, seed=0):
  return jnp.float32(np.random.default_rng(seed).normal(size=shape))


def gradient(module, params, *inputs):
  """(loss, gradients by parameters and the first input), compiled."""

  @jax.jit
  def found(params, x, *rest):
    loss = lambda p, x: jnp.sum(jnp.sin(module.apply(p, x, *rest)))
    return jax.value_and_grad(loss, (0, 1))(params, x)

  return found(params, *inputs)


def same(a, b, **tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.parametrize("gate", [None, "bool"])
def test_gradients_are_those_of_the_plain_function(gate):
  x = drawn(ROWS, WIDTH)
  gate = None if gate is None else drawn(ROWS, 1, seed=1) > 0
  params = Branch(False).init(jax.random.key(0), x, gate)
  assert jax.tree.structure(params) == jax.tree.structure(
    Branch(True).init(jax.random.key(0), x, gate)
  )
  plain, again = (gradient(Branch(a), params, x, gate) for a in (False, True))
  same(plain, again, rtol=1e-6, atol=1e-7)


def test_infinite_rows_spoil_no_others_and_nan_is_not_hidden():
  x = drawn(ROWS, WIDTH)
  params = Branch(True).init(jax.random.key(0), x)
  _, back = jax.vjp(lambda x: Branch(True).apply(params, x), x)
  for value in (jnp.inf, jnp.nan):
    (found,) = back(jnp.ones_like(x).at[2, 0].set(value))
    assert not np.isfinite(found[2]).all()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


def blocks(remat):
  return Blocks(LAYERS, heads=2, remat=remat)


def test_blocks_of_half_precision():
  """bfloat16: what is computed again is rounded as the first time."""
  module = lambda remat: Blocks(2, heads=2, remat=remat, dtype="bfloat16")
  x = drawn(2, ROWS, WIDTH).astype(jnp.bfloat16)
  params = module(False).init(jax.random.key(0), x)
  plain, again = (gradient(module(r), params, x) for r in (False, True))
  as_wide = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
  same(as_wide(plain), as_wide(again), rtol=5e-2, atol=5e-2)


def temporary(module, x):
  params = module.init(jax.random.key(0), x[:1])

  def loss(params, x):
    return jnp.sum(jnp.sin(module.apply(params, x)))

  step = jax.jit(jax.grad(loss)).lower(params, x).compile()
  return step.memory_analysis().temp_size_in_bytes


def test_a_stack_needs_less_memory():
  """On every device, the CPU included: there nn.remat alone saves nothing."""
  x = drawn(32, 64, WIDTH)
  plain, again = (temporary(blocks(remat), x) for remat in (False, True))
  assert again < 0.4 * plain


@pytest.mark.skipif(
  jax.default_backend() != "cpu", reason="accelerators may keep what they like"
)
def test_an_mlp_keeps_one_array_of_its_inner_width():
  """Two of them would be eight times the input."""
  x = drawn(64, 64, WIDTH)

  class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
      for i in range(LAYERS):
        x = x + Mlp(name=f"mlp_{i}")(x)
      return x

  kept_by_each = temporary(Stack(), x) / (LAYERS * x.nbytes)
  assert kept_by_each < 8


def test_what_is_sown_within_can_be_read():
  class Sows(nn.Module):
    @nn.compact
    def __call__(self, x):
      self.sow(recompute.SOWN, "seen", x)
      return Dense(WIDTH, name="dense")(x)

  class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
      return recompute.recomputed(lambda inner, x: inner(x))(Sows(name="inner"), x)

  x = drawn(ROWS, WIDTH)
  params = {"params": Outer().init(jax.random.key(0), x)["params"]}
  _, seen = Outer().apply(params, x, mutable=[recompute.SOWN])
  np.testing.assert_array_equal(seen[recompute.SOWN]["inner"]["seen"][0], x)
