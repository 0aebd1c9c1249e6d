"""Numerical building blocks that several layers share."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Rank-deciding products keep full float32: the default of TPUs (bfloat16 passes) and of
# recent GPUs (TF32) moves a cosine by up to 1e-3, which a scale of 50 makes visible.
FULL = lax.Precision.HIGHEST


def unit(x: jax.Array, *, tiny: float = 1e-24) -> jax.Array:
  """[..., D] -> float32 [..., D] of length 1.

  A vector whose squared length is below `tiny` becomes 0 and gets no gradient: the true
  one is unbounded there.
  """
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  none = square <= tiny  # false for NaN, which must stay NaN
  return jnp.where(none, 0.0, x * lax.rsqrt(jnp.where(none, 1.0, square)))


def masked_mean(values: jax.Array, valid: jax.Array | None = None) -> jax.Array:
  """Mean of the entries whose `valid` is True, float32 []; 0.0 if none is."""
  values = values.astype(jnp.float32)
  if valid is None:
    return jnp.mean(values)
  weight = valid.astype(jnp.float32)
  # `where` and not a product, so that an invalid NaN cannot leak in.
  total = jnp.sum(jnp.where(valid, values, 0.0))
  return total / jnp.maximum(jnp.sum(weight), 1.0)


def similarity(a: jax.Array, b: jax.Array) -> jax.Array:
  """[A, D], [B, D] -> float32 [A, B] inner products (cosines, for unit rows)."""
  return jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32).T, precision=FULL)


def part_similarity(a: jax.Array, b: jax.Array) -> jax.Array:
  """Mean over parts of the cosine of part k with part k (UFineBench, local similarity).

  Args:
    a: [A, K, W] parts, any length.
    b: [B, K, W].

  Returns:
    float32 [A, B]; one product of concatenated unit parts: sum_k <a_k, b_k> / K.
  """
  if a.shape[1:] != b.shape[1:]:
    raise ValueError(
      f"part_similarity: parts of shape {a.shape[1:]} against {b.shape[1:]}; both sides"
      " need the same number and width"
    )
  flat_a = unit(a).reshape(a.shape[0], -1)
  flat_b = unit(b).reshape(b.shape[0], -1)
  return similarity(flat_a, flat_b) / a.shape[1]


def contract(spec: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
  """Einsum of two operands computed in `dtype`, summed and returned in float32.

  With bfloat16 the operands (and in the backward pass the cotangent) are rounded to
  bfloat16, while every sum stays float32; gradients come back in the operands' own
  dtypes, so a float32 kernel's gradient never passes through bfloat16. Asking for a
  float32 result is what makes bfloat16 fast on CPU (XLA widens a plain one slowly), and
  rounding the cotangent keeps the backward products on the matrix units elsewhere.

  Args:
    spec: einsum of two operands, each letter once per operand, e.g. "abi,io->abo".
    dtype: "float32" or "bfloat16".

  Returns:
    float32 array.
  """
  if dtype == "float32":
    return jnp.einsum(spec, a.astype(jnp.float32), b.astype(jnp.float32))
  return _contract(spec, dtype, a, b)


def rounded(spec: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
  """`contract` with its result in `dtype`, for what nothing is added to.

  Summed in float32 all the same. GPUs round as they write: with a second kernel to do
  it, XLA's compiler would take a slower product that can do both.
  """
  if dtype == "float32":
    return contract(spec, a, b, dtype)

  def on_gpu(a, b):
    a, b = a.astype(dtype), b.astype(dtype)
    return jnp.einsum(spec, a, b, preferred_element_type=dtype)

  return lax.platform_dependent(
    *(a, b),
    cuda=on_gpu,
    rocm=on_gpu,
    default=lambda a, b: contract(spec, a, b, dtype).astype(dtype),
  )


def rows_times(
  x: jax.Array, kernel: jax.Array, dtype: str, narrow: bool = False
) -> jax.Array:
  """[..., in] x [in, out] -> float32 [..., out], computed as `contract` does.

  With `narrow` the result is in `dtype`, as that of `rounded`.

  On a CPU as one matrix of all rows: over two axes of rows XLA's products are far
  slower there. TPUs keep the axes: they would have to move all numbers where one of
  193 tokens, which tiles of 8 rows do not divide, goes together with another.
  """
  if x.ndim < 3:
    y = contract("ni,io->no" if x.ndim == 2 else "i,io->o", x, kernel, dtype)
    return y.astype(dtype) if narrow else y
  return _rows_times(dtype, narrow, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows_times(dtype: str, narrow: bool, x: jax.Array, kernel: jax.Array) -> jax.Array:
  product = rounded if narrow else contract

  def on(x, kernel):
    rows = _letters(x)
    return product(f"{rows}i,io->{rows}o", x, kernel, dtype)

  def on_cpu(x, kernel):
    return on(_flat(x), kernel).reshape(*x.shape[:-1], -1)

  return lax.platform_dependent(x, kernel, cpu=on_cpu, default=on)


def _rows_times_forward(dtype, narrow, x, kernel):
  # An empty tuple has no leaves, as None has: what is asked for is known in tracing.
  asked = tuple(() if side.perturbed else None for side in (x, kernel))
  x, kernel = x.value, kernel.value
  return _rows_times(dtype, narrow, x, kernel), (x, kernel, asked)


def _rows_times_backward(dtype, narrow, kept, cotangent):
  del narrow  # a cotangent is rounded anyway
  x, kernel, asked = kept
  if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
    return None, None
  back = rounded if x.dtype == dtype else contract

  def on(x, kernel, cotangent):
    rows, found = _letters(x), [None, None]
    if asked[0] is not None:
      found[0] = back(f"{rows}o,io->{rows}i", cotangent, kernel, dtype)
    if asked[1] is not None:
      found[1] = contract(f"{rows}i,{rows}o->io", x, cotangent, dtype)
    return found

  def on_cpu(x, kernel, cotangent):
    of_x, of_kernel = on(_flat(x), kernel, _flat(cotangent))
    return [None if of_x is None else of_x.reshape(x.shape), of_kernel]

  found = lax.platform_dependent(x, kernel, cotangent, cpu=on_cpu, default=on)
  sides = zip(found, (x, kernel), strict=True)
  return tuple(None if g is None else g.astype(side.dtype) for g, side in sides)


_rows_times.defvjp(_rows_times_forward, _rows_times_backward, symbolic_zeros=True)


def _letters(x: jax.Array) -> str:
  """One for each axis of rows."""
  return "abcdefgh"[: x.ndim - 1]


def _flat(x: jax.Array) -> jax.Array:
  return x.reshape(-1, x.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _contract(spec: str, dtype: str, a: jax.Array, b: jax.Array) -> jax.Array:
  product = functools.partial(jnp.einsum, spec, preferred_element_type=jnp.float32)
  a, b = a.astype(dtype), b.astype(dtype)
  inputs, output = spec.split("->")
  first, second = inputs.split(",")
  if not set(first) & set(second) & set(output):
    return product(a, b)
  # A batched bfloat16 product with a float32 result fails at run time on XLA's CPU for
  # some layouts (jax 0.10 to 0.12). The rounded operands widened give the same sums.
  return lax.platform_dependent(
    a,
    b,
    cpu=lambda a, b: product(a.astype(jnp.float32), b.astype(jnp.float32)),
    default=product,
  )


def _contract_forward(spec, dtype, a, b):
  return _contract(spec, dtype, a, b), (a, b)


def _contract_backward(spec, dtype, operands, cotangent):
  a, b = operands
  inputs, output = spec.split("->")
  first, second = inputs.split(",")
  grad_a = _contract(f"{output},{second}->{first}", dtype, cotangent, b)
  grad_b = _contract(f"{first},{output}->{second}", dtype, a, cotangent)
  return grad_a.astype(a.dtype), grad_b.astype(b.dtype)


_contract.defvjp(_contract_forward, _contract_backward)
