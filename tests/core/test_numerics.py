import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.reference import losses as reference
from tpr_jax.core import numerics


def test_unit_rows():
  x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
  expected = x / np.linalg.norm(x, axis=1, keepdims=True)
  np.testing.assert_allclose(numerics.unit(jnp.asarray(x)), expected, rtol=1e-5)
  low = numerics.unit(jnp.asarray(x, jnp.bfloat16))
  assert low.dtype == jnp.float32
  np.testing.assert_allclose(jnp.linalg.norm(low, axis=1), 1.0, atol=1e-6)
  check_grads(lambda v: numerics.unit(v)[:, 0].sum(), (x,), 1, ["rev"], rtol=2e-2)


def test_unit_of_zero_is_zero_without_gradient_and_nan_stays():
  x = jnp.array([[0.0, 0.0], [3.0, 4.0], [jnp.nan, 1.0]])
  out = numerics.unit(x)
  np.testing.assert_allclose(out[:2], [[0, 0], [0.6, 0.8]], rtol=1e-6)
  assert np.isnan(out[2]).all()
  grads = jax.grad(lambda v: numerics.unit(v)[:2].sum())(x)
  np.testing.assert_array_equal(grads[0], 0.0)


def test_masked_mean():
  values = jnp.array([1.0, jnp.nan, 3.0, 8.0])
  valid = jnp.array([True, False, True, False])
  assert numerics.masked_mean(values, valid) == 2.0
  assert numerics.masked_mean(values, jnp.zeros(4, bool)) == 0.0
  assert numerics.masked_mean(values[2:]) == 5.5
  grads = jax.grad(lambda v: numerics.masked_mean(v, valid))(values)
  np.testing.assert_array_equal(grads, [0.5, 0, 0.5, 0])


def test_part_similarity_compares_part_k_with_part_k():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(3, 4, 6)), rng.normal(size=(5, 4, 6))
  out = jax.jit(numerics.part_similarity)(a, b)
  np.testing.assert_allclose(out, reference.part_similarity(a, b), atol=1e-5)
  shuffled = numerics.part_similarity(jnp.asarray(a)[:, ::-1], jnp.asarray(b))
  assert np.abs(shuffled - out).max() > 0.01
  with pytest.raises(ValueError, match="same number and width"):
    numerics.part_similarity(jnp.ones((1, 2, 3)), jnp.ones((1, 3, 3)))


def test_similarity_is_float32_and_precise():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 6, 64))
  exact = a.astype(np.float32) @ b.astype(np.float32).T
  np.testing.assert_allclose(numerics.similarity(a, b), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", ["abi,io->abo", "bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd"])
@pytest.mark.parametrize("width", [3, 64])  # XLA picks another kernel for each
def test_contract_gradients(spec, width):
  """bfloat16 against the float32 einsum; float32 operands keep float32 gradients."""
  letters = dict(zip("abioqkhd", (2, 3, width, 5, 4, 6, 2, width), strict=True))
  inputs = spec.split("->")[0].split(",")
  rng = np.random.default_rng(0)
  a, b = (
    jnp.asarray(rng.normal(size=[letters[x] for x in term]), jnp.float32)
    for term in inputs
  )

  def loss_fn(dtype):
    # Scaled to unit variance: the sine of a large number would magnify its error.
    return lambda x, y: jnp.sum(
      jnp.sin(numerics.contract(spec, x, y, dtype) * width**-0.5)
    )

  exact = numerics.contract(spec, a, b, "float32")
  np.testing.assert_allclose(exact, np.einsum(spec, a, b), rtol=1e-4, atol=1e-5)
  low = numerics.contract(spec, a, b, "bfloat16")
  assert low.dtype == jnp.float32 and 0 < np.abs(low - exact).max() < 0.2
  wanted = jax.jit(jax.grad(loss_fn("float32"), (0, 1)))(a, b)
  found = jax.jit(jax.grad(loss_fn("bfloat16"), (0, 1)))(a, b)
  for x, y in zip(found, wanted, strict=True):
    assert x.dtype == jnp.float32
    assert np.linalg.norm(x - y) < 0.02 * np.linalg.norm(y)
  mixed = jax.grad(loss_fn("bfloat16"), (0, 1))(a.astype(jnp.bfloat16), b)
  assert [g.dtype for g in mixed] == [jnp.bfloat16, jnp.float32]


def drawn(*shape, seed=0):
  return jnp.float32(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("rows", [(), (5,), (2, 5), (2, 3, 5)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_times_is_a_product_of_the_last_axis(rows, dtype):
  x, kernel, weights = drawn(*rows, 7), drawn(7, 4, seed=1), drawn(*rows, 4, seed=2)
  rounded = lambda a: np.float64(np.asarray(a.astype(dtype).astype(jnp.float32)))

  def total(x, kernel):
    return jnp.sum(numerics.rows_times(x, kernel, dtype) * weights)

  y = numerics.rows_times(x, kernel, dtype)
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, rounded(x) @ rounded(kernel), rtol=1e-5, atol=1e-5)
  of_x, of_kernel = jax.jit(jax.grad(total, (0, 1)))(x, kernel)
  g = rounded(weights)
  np.testing.assert_allclose(of_x, g @ rounded(kernel).T, rtol=1e-5, atol=1e-5)
  flat = rounded(x).reshape(-1, 7).T @ g.reshape(-1, 4)
  np.testing.assert_allclose(of_kernel, flat, rtol=1e-5, atol=1e-5)


def products(side):
  """Matrix products on a CPU of a value and its gradient by these arguments."""
  fn = lambda x, kernel: jnp.sum(numerics.rows_times(x, kernel, "float32") ** 2)
  text = jax.jit(jax.value_and_grad(fn, side)).lower(drawn(2, 5, 7), drawn(7, 4))
  return text.as_text().count("dot_general")


def test_rows_times_computes_no_gradient_that_is_not_asked_for():
  assert (products(0), products(1), products((0, 1))) == (2, 2, 3)


@pytest.mark.parametrize(("platform", "shape"), [("cpu", "10x7"), ("tpu", "2x5x7")])
def test_rows_go_together_on_cpus_alone(platform, shape):
  fn = jax.jit(lambda x, kernel: numerics.rows_times(x, kernel, "float32"))
  traced = fn.trace(drawn(2, 5, 7), drawn(7, 4))
  (line,) = [
    line
    for line in traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
    if "dot_general" in line
  ]
  assert f"tensor<{shape}xf32>" in line


@pytest.mark.parametrize(
  ("platform", "result"), [("cpu", "f32"), ("tpu", "f32"), ("cuda", "bf16")]
)
def test_a_gpu_rounds_what_goes_back_as_it_writes_it(platform, result):
  fn = lambda x, kernel: jnp.sum(numerics.rows_times(x, kernel, "bfloat16"))
  x = jnp.bfloat16(drawn(2, 5, 7))
  lowered = (
    jax.jit(jax.grad(fn)).trace(x, drawn(7, 4)).lower(lowering_platforms=(platform,))
  )
  (back,) = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
  assert back.endswith(f"x{result}>")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounded_is_contract_in_the_dtype(dtype):
  a, b = drawn(3, 5), drawn(5, 4, seed=1)
  found = numerics.rounded("ai,io->ao", a, b, dtype)
  assert found.dtype == dtype
  expected = numerics.contract("ai,io->ao", a, b, dtype).astype(dtype)
  np.testing.assert_array_equal(found, expected)
