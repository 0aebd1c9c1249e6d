"""What a traced program does, found in it."""

import jax
import jax.numpy as jnp
import pytest

from tpr_jax.core import jaxprs


def dropped(x, key):
  return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0.0)


@pytest.mark.parametrize(
  "fn",
  [
    dropped,
    jax.checkpoint(dropped),
    lambda x, key: jax.lax.map(lambda row: dropped(row, key), x),
    lambda x, key: jax.lax.cond(x.sum() > 0, dropped, lambda x, _: x, x, key),
    lambda x, key: jax.grad(lambda x: dropped(x, key).sum())(x),
  ],
)
def test_random_bits_are_found_wherever_they_are_made(fn):
  assert jaxprs.draws(fn, jnp.ones((2, 3)), jax.random.key(0))


def test_a_key_that_is_not_drawn_from_is_no_draw():
  keep = lambda x, key: (jnp.tanh(x), jax.random.split(key), jax.random.fold_in(key, 1))
  assert not jaxprs.draws(lambda x, key: jnp.tanh(x), jnp.ones(3), jax.random.key(0))
  assert not jaxprs.draws(lambda *args: keep(*args)[0], jnp.ones(3), jax.random.key(0))
