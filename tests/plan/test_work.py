"""FLOPs of one device's products, as CPUs and as TPUs write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tpr_jax import flops
from tpr_jax.plan import hlo, work


def compiled(fn, *args, **how):
  return hlo.parse(jax.jit(fn, **how).lower(*args).compile().as_text())


def test_products_of_a_cpu_program_are_those_of_its_trace():
  def loss(w, x):
    step = lambda y, _: (jnp.tanh(y @ w), None)
    return jnp.sum(jax.lax.scan(step, x, None, length=5)[0])

  args = jnp.ones((64, 64)), jnp.ones((32, 64))
  grad = jax.grad(loss)
  assert work.flops(compiled(grad, *args)) == flops.count(grad, *args).total


def test_a_split_batch_splits_the_work_and_a_whole_one_repeats_it():
  if jax.device_count() < 8:
    pytest.skip("needs 8 virtual CPU devices (tests/conftest.py)")
  mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
  whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
  args, product = (jnp.ones((64, 32)), jnp.ones((32, 16))), 2 * 64 * 32 * 16
  for batch, share in ((split, 8), (whole, 1)):
    how = dict(in_shardings=(batch, whole), out_shardings=batch)
    assert work.flops(compiled(jnp.matmul, *args, **how)) == product // share


@pytest.mark.parametrize(
  ("left", "right", "out", "attributes", "expected"),
  [
    ("2688,512", "512,1536", "2688,1536", "dim_labels=bf_io->bf", 2688 * 512 * 1536),
    ("2688,512", "64,512", "2688,64", "dim_labels=bf_oi->bf", 2688 * 512 * 64),
    ("99,512", "99,64", "512,64", "dim_labels=fb_io->bf", 99 * 512 * 64),
    (  # 16 x 8 attention maps of 168 queries and 168 keys of 64 numbers
      "16,168,8,64",
      "16,168,8,64",
      "16,8,168,168",
      "window={size=16x8 stride=15x7 lhs_dilate=16x8}, dim_labels=0b1f_0o1i->01bf",
      16 * 8 * 168 * 168 * 64,
    ),
    (  # a patch embedding: no padding, patches side by side
      "2,32,16,3",
      "8,8,3,10",
      "2,4,2,10",
      "window={size=8x8 stride=8x8}, dim_labels=b01f_01io->b01f",
      2 * 4 * 2 * 8 * 8 * 3 * 10,
    ),
    (  # three taps over 5 with padding: the first and the last output see two
      "1,5,1",
      "3,1,1",
      "1,5,1",
      "window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f",
      3 * 5 - 2,
    ),
  ],
)
def test_convolutions_as_tpus_write_products(left, right, out, attributes, expected):
  text = f"""\
HloModule m

ENTRY %main (a: bf16[{left}], b: bf16[{right}]) -> f32[{out}] {{
  %a = bf16[{left}] parameter(0)
  %b = bf16[{right}] parameter(1)
  ROOT %c = f32[{out}] convolution(%a, %b), {attributes}
}}
"""
  assert work.flops(hlo.parse(text)) == 2 * expected
