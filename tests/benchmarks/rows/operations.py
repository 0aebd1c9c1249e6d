"""What a step is made of, one operation at a time: B/16's products and its attention.

`products`: the four of a block (q, k, v; out; and the two of its MLP), each forward and
by both operands. `attention`: between them, forward, and with its gradient. At the rows
and tokens of `--batch` pictures of 384 x 128, float32, whatever --size says.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import steps, suite
from tpr_jax.ops import attention

TOKENS, WIDTH, HEADS = 193, 768, 12
# (in, out) of a block's products.
KERNELS = ((768, 2304), (768, 768), (768, 3072), (3072, 768))


def rows(options: suite.Options) -> Iterator[suite.Row]:
  """operations/products, operations/attention, operations/attention-gradient."""
  torch = suite.torch_or_none()
  draw = np.random.default_rng(0).standard_normal
  count = options.batch * TOKENS
  ours, theirs, work = [], [], 0
  for size, out in KERNELS:
    arrays = [draw(shape, np.float32) for shape in ((count, size), (size, out))]
    arrays.append(draw((count, out), np.float32))
    ours += _products(*map(jnp.asarray, arrays))
    theirs += _torch_products(*map(torch.tensor, arrays))
    work += 3 * 2 * count * size * out
  acts = {"ours": lambda: [act() for act in ours]}
  acts["PyTorch"] = lambda: [act() for act in theirs]
  about = f"a block's products and their gradients, {count:,} rows"
  yield _row("products", about, acts, options, work)
  shape = (options.batch, TOKENS, HEADS, WIDTH // HEADS)
  arrays = [draw(shape, np.float32) for _ in range(4)]
  acts = dict(ours=_attention(arrays), PyTorch=_torch_attention(torch, arrays))
  about = f"attention, {options.batch} x {TOKENS} tokens, {HEADS} heads"
  for index, name in enumerate(("attention", "attention-gradient")):
    sides = {side: made[index] for side, made in acts.items()}
    yield _row(name, about + (", with its gradient" if index else ""), sides, options)


def _products(x: jax.Array, kernel: jax.Array, g: jax.Array) -> list[Callable]:
  made = (
    (lambda a, b: a @ b, (x, kernel)),
    (lambda a, b: a @ b.T, (g, kernel)),
    (lambda a, b: a.T @ b, (x, g)),
  )
  compiled = [(jax.jit(f).lower(*args).compile(), args) for f, args in made]
  return [lambda f=f, a=args: jax.block_until_ready(f(*a)) for f, args in compiled]


def _torch_products(x: Any, kernel: Any, g: Any) -> list[Callable]:
  """As `torch.nn.Linear` has them: its weight is [out, in]."""
  weight = kernel.t().contiguous()
  return [lambda: x @ weight.t(), lambda: g @ weight, lambda: g.t() @ x]


def _attention(arrays: list[np.ndarray]) -> list[Callable]:
  q, k, v, g = map(jnp.asarray, arrays)
  forward = jax.jit(attention.attend)

  @jax.jit
  def both(q, k, v, g):
    out, back = jax.vjp(attention.attend, q, k, v)
    return out, back(g)

  return [
    lambda: jax.block_until_ready(forward(q, k, v)),
    lambda: jax.block_until_ready(both(q, k, v, g)),
  ]


def _torch_attention(torch: Any, arrays: list[np.ndarray]) -> list[Callable]:
  attend = torch.nn.functional.scaled_dot_product_attention
  *leaves, g = (torch.tensor(a).transpose(1, 2).contiguous() for a in arrays)
  leaves = [leaf.requires_grad_() for leaf in leaves]

  def forward():
    with torch.inference_mode():
      return attend(*leaves)

  return [forward, lambda: torch.autograd.grad(attend(*leaves), leaves, g)]


def _row(name, what, acts, options, work=0) -> suite.Row:
  """Median of as many turns as there are rounds, each of `steps` times ten calls."""
  times = 10 * options.steps
  for act in acts.values():
    act()

  def turn(act):
    return steps.clocked(lambda: [act() for _ in range(times)]) / times

  sides = {side: functools.partial(turn, act) for side, act in acts.items()}
  found = steps.in_turn(sides, options.rounds)
  ratio = found["PyTorch"] / found["ours"]

  def shown(seconds):
    median = np.median(seconds[:, 0])
    rate = f", {work / median / 1e9:,.0f} GFLOP/s" if work else ""
    return f"{1000 * median:.1f} ms{rate}"

  return suite.Row(
    f"operations/{name}",
    f"{what}, float32, CPU",
    shown(found["ours"]),
    shown(found["PyTorch"]),
    ratio[:, 0].tolist(),
    of_processor=ratio[:, 1].tolist(),
    raw={side: seconds.tolist() for side, seconds in found.items()},
  )
