"""The factored product against the formula, its worked example, and slow LoRA, DoRA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tpr_jax.ops import lowrank

# A layer of two inputs and outputs, worked out by hand in float64; [in, out] here.
KERNEL = jnp.array([[3.0, 4.0], [0.0, 5.0]])
BIAS = jnp.array([0.5, -1.0])
A, B = jnp.array([[1.0], [2.0]]), jnp.array([[0.5, -0.25]])
X = jnp.array([[1.0, 2.0], [-1.0, 0.5]])
PER = ("input", "output")


def factors(per, alpha=2.0, beta=0.5, b=B, magnitude=None):
  if magnitude is None and per:
    magnitude = lowrank.norms(KERNEL, per)
  as_array = functools.partial(jnp.asarray, dtype=jnp.float32)
  return lowrank.Factors(A, b, as_array(alpha), as_array(beta), magnitude)


def both(per, **changes):
  """(W in torch's layout, y by the product, y by W)."""
  found = factors(per, **changes)
  kernel = lowrank.merged(KERNEL, found, per)
  return kernel.T, lowrank.product(X, KERNEL, found, per=per) + BIAS, X @ kernel + BIAS


@pytest.mark.parametrize(
  ("per", "changes", "kernel", "y"),
  [
    (
      "input",
      {},
      [[4.28746463, 4.0], [2.57247878, 3.0]],
      [[12.78746463, 7.57247878], [-1.78746463, -2.07247878]],
    ),
    (
      "output",
      {},
      [[2.34260643, 1.87408514], [4.52769257, 4.52769257]],
      [[6.59077671, 12.58307771], [-0.90556386, -3.26384628]],
    ),
    (
      "input",
      dict(beta=1.0),
      [[3.76288347, 2.23606798], [3.29252304, 4.47213595]],
      [[8.73501943, 11.23679495], [-2.14484948, -2.05645506]],
    ),
    (
      "output",
      dict(beta=1.0),
      [[2.68328157, 1.34164079], [4.21648682, 4.81884207]],
      [[5.86656315, 12.85417096], [-1.51246118, -2.80706578]],
    ),
    ("", dict(beta=1.0), [[4, 2], [3.5, 4]], [[8.5, 10.5], [-2.5, -2.5]]),
    ("input", dict(b=0 * B), KERNEL.T, [[3.5, 13], [-2.5, -2.5]]),
    (
      "input",
      dict(magnitude=jnp.array([[6.0], [2.0]])),
      None,
      [[8.84495755, 4.48697453], [-3.84495755, -3.48697453]],
    ),
  ],
)
def test_the_worked_example(per, changes, kernel, y):
  found, factored, naive = both(per, **changes)
  if kernel is not None:
    np.testing.assert_allclose(found, kernel, rtol=1e-6)
  np.testing.assert_allclose(factored, y, rtol=1e-6)
  np.testing.assert_allclose(naive, y, rtol=1e-6)


def total(found, per, detach=False):
  return jnp.sum(lowrank.product(X, KERNEL, found, per=per, detach=detach) + BIAS)


@pytest.mark.parametrize(
  ("per", "detach", "alpha", "beta"),
  [
    ("input", False, -1.0, 4.0),
    ("output", False, -0.08621815, 0.34487261),
    ("input", True, 2.5, 25.0),
    ("output", True, -1.43047071, 37.73077141),
  ],
)
def test_gradients_of_the_worked_example(per, detach, alpha, beta):
  value, found = jax.value_and_grad(total)(factors(per), per, detach)
  assert value == pytest.approx(16.5 if per == "input" else 15.00444428, rel=1e-6)
  # Without detaching the two are small differences of terms of the size of these.
  size = np.abs([2.5, 25.0] if per == "input" else [1.43, 37.7])
  np.testing.assert_allclose(found.alpha, alpha, atol=1e-6 * size[0], rtol=1e-6)
  np.testing.assert_allclose(found.beta, beta, atol=1e-6 * size[1], rtol=1e-6)


def test_the_first_step_moves_b_and_m_alone():
  start = factors("input", alpha=8.0, beta=1.0, b=0 * B)
  found = jax.grad(total)(start, "input")
  np.testing.assert_allclose(found.b, [[40.0, 0.0]], atol=1e-5)
  np.testing.assert_allclose(found.magnitude, [[0.0], [2.5]], atol=1e-6)
  np.testing.assert_allclose(found.a, np.zeros((2, 1)), atol=1e-6)
  np.testing.assert_allclose([found.alpha, found.beta], [0.0, 0.0], atol=3e-6)


# ---- random layers


def case(seed, per):
  key = iter(jax.random.split(jax.random.key(seed), 8))
  normal = lambda *shape: jax.random.normal(next(key), shape)
  x, kernel, weight = normal(7, 6), normal(6, 5), normal(7, 5)
  shape = (6, 1) if per == "input" else (1, 5)
  magnitude = jnp.exp(normal(*shape)) if per else None
  alpha, beta = jnp.exp(normal()), jnp.exp(normal())
  return (
    x,
    kernel,
    weight,
    lowrank.Factors(normal(6, 3), normal(3, 5), alpha, beta, magnitude),
  )


def naive(x, kernel, found, per, detach):
  """The formula of the file's top, step by step."""
  whole = found.beta * kernel + found.alpha * (found.a @ found.b)
  if per:
    length = jnp.linalg.norm(whole, axis=1 if per == "input" else 0, keepdims=True)
    length = jax.lax.stop_gradient(length) if detach else length
    whole = found.magnitude * whole / length
  return x @ whole


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("per", ["", *PER])
def test_the_product_and_its_gradients_are_those_of_the_formula(per, detach):
  @functools.partial(jax.jit, static_argnums=0)
  def both(fn, x, kernel, weight, found):
    loss = lambda x, found: jnp.sum(weight * fn(x, kernel, found))
    return fn(x, kernel, found), jax.grad(loss, argnums=(0, 1))(x, found)

  fast = functools.partial(lowrank.product, per=per, detach=detach)
  slow = functools.partial(naive, per=per, detach=detach)
  for seed in range(4):
    made = case(seed, per)
    values, expected = both(fast, *made), both(slow, *made)
    for one, other in zip(
      jax.tree.leaves(values), jax.tree.leaves(expected), strict=True
    ):
      np.testing.assert_allclose(
        one, other, atol=2e-5 * float(np.abs(other).max() + 0.1)
      )


@pytest.mark.parametrize("per", PER)
def test_only_the_ratio_of_the_scales_acts(per):
  for seed in range(3):
    x, kernel, weight, found = case(seed, per)
    scaled = found._replace(alpha=3.7 * found.alpha, beta=3.7 * found.beta)
    y = lowrank.product(x, kernel, found, per=per)
    np.testing.assert_allclose(
      lowrank.product(x, kernel, scaled, per=per), y, rtol=1e-4, atol=1e-4
    )

    def terms(detach, x=x, kernel=kernel, weight=weight, found=found):
      loss = lambda f: jnp.sum(
        weight * lowrank.product(x, kernel, f, per=per, detach=detach)
      )
      grads = jax.grad(loss)(found)
      return found.alpha * grads.alpha, found.beta * grads.beta

    by_alpha, by_beta = terms(detach=False)
    size = max(map(abs, terms(detach=True)))
    assert abs(by_alpha + by_beta) < 1e-4 * size
    by_alpha, by_beta = terms(detach=True)
    assert by_alpha + by_beta == pytest.approx(float(jnp.sum(weight * y)), rel=1e-3)


@pytest.mark.parametrize("per", PER)
def test_a_zero_column_has_a_value_and_gradients(per):
  kernel = KERNEL.at[0].set(0.0) if per == "input" else KERNEL.at[:, 0].set(0.0)
  found = factors(per, b=0 * B)
  loss = lambda f: jnp.sum(lowrank.product(X, kernel, f, per=per))
  value, grads = jax.value_and_grad(loss)(found)
  assert np.isfinite(value)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_bfloat16_rounds_the_products_and_not_the_norms():
  x, kernel, _, found = case(0, "input")
  exact = lowrank.product(x, kernel, found, per="input")
  rounded = lowrank.product(
    x.astype(jnp.bfloat16), kernel, found, per="input", dtype="bfloat16"
  )
  assert rounded.dtype == jnp.float32
  assert 0 < np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()


# ---- LoRA and DoRA as they are written for PyTorch: weights [out, in], rows of outputs


def lora_slow(x, weight, a, b, scale):
  """h_o = sum_i W_oi x_i + s sum_r B_or sum_i A_ri x_i: arXiv:2106.09685, Eq. 3."""
  y = np.zeros((len(x), len(weight)))
  for row in range(len(x)):
    for out in range(len(weight)):
      y[row, out] = weight[out] @ x[row]
      for r in range(len(a)):
        y[row, out] += scale * b[out, r] * (a[r] @ x[row])
  return y


def dora_slow(x, weight, a, b, scale, magnitude):
  """m_o (W + s B A)_o x / |(W + s B A)_o| for each output: arXiv:2402.09353, Eq. 5."""
  y = np.zeros((len(x), len(weight)))
  for out in range(len(weight)):
    row = weight[out] + scale * sum(b[out, r] * a[r] for r in range(len(a)))
    y[:, out] = magnitude[out] * (x @ row) / np.sqrt((row * row).sum())
  return y


@pytest.mark.parametrize("seed", range(3))
def test_lora_and_dora_are_what_they_are_elsewhere(seed):
  x, kernel, _, found = case(seed, "output")
  found = found._replace(beta=1.0)
  turned = [np.float64(w).T for w in (kernel, found.a, found.b)]
  args = (np.float64(x), *turned, float(found.alpha))
  y = lowrank.product(x, kernel, found._replace(magnitude=None))
  np.testing.assert_allclose(y, lora_slow(*args), rtol=1e-5, atol=1e-5)
  y = lowrank.product(x, kernel, found, per="output")
  expected = dora_slow(*args, np.float64(found.magnitude)[0])
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
