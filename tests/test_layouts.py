"""On every layout of the mesh a training is that of one device, for every family.

A sample here; `-m proof` takes each family on each layout. Small models, the optimizers
and objectives of the configs, masks and drop-path on (tests/layouts.py).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import collectives, layouts
from tests.layouts import ONE
from tpr_jax.core import sharding, tree

ALL = "data 2 x fsdp 2 x tensor 2"
SAMPLE = [("CLIP", ALL), ("CLIP, from scratch", "fsdp 8")]  # Adam, Muon
# Slower to compile.
PROOF_SAMPLE = [("CFAM", ALL), ("IRRA", "data 2 x tensor 4"), ("MRA", ALL)]
GRID = [(f, n) for f in layouts.FAMILIES for n in layouts.LAYOUTS]
ADAM = [SAMPLE[0], *(pytest.param(*c, marks=pytest.mark.proof) for c in PROOF_SAMPLE)]
# ITM's negatives are any tokens of the batch: there they are gathered, once.
TOWERS_ALONE = ADAM[:-1]
# Two pieces of 16 rows are no 8 each; the code of GA-DMS scores by the whole batch.
MICRO_GRID = [
  (f, n)
  for f, n in GRID
  if "scratch" not in f and f != "GA-DMS, code" and n != "data 8"
]


def check(family, layout, micro_batches=1, **given):
  """Ten steps on a layout against ten on one device.

  A sum of float32 numbers in another order differs by some 1e-7 of its largest term;
  behind a temperature of 0.02 and two or three layers that is some 1e-6 of a gradient.
  Ten steps carry that on: the rates here are 100 times those of the configs, and each
  step's rounding comes back through the next gradient.
  """
  expected = layouts.run(family, ONE, micro_batches, **given)
  found = layouts.run(family, layout, micro_batches, **given)
  for name, leaf in tree.flat(expected.start.params).items():
    np.testing.assert_array_equal(tree.flat(found.start.params)[name], leaf, name)
  without = layouts.CANCELLED.get(family, "^$")
  differences = layouts.differences(found, expected, without)
  assert differences["loss"] < 1e-5
  assert differences["gradients"] < 2e-5
  assert differences["losses"] < 1e-4
  assert differences["parameters"] < 1e-3
  assert expected.metrics[0]["loss"] != expected.metrics[-1]["loss"]


@pytest.mark.parametrize(("family", "layout"), SAMPLE)
def test_ten_steps_equal_one_device(family, layout):
  check(family, layout)


@pytest.mark.proof
@pytest.mark.parametrize(("family", "layout"), [c for c in GRID if c not in SAMPLE])
def test_ten_steps_equal_one_device_everywhere(family, layout, sample):
  if sample and (family, layout) not in PROOF_SAMPLE:
    pytest.skip("a sample was asked for")
  check(family, layout)


@pytest.mark.proof
@pytest.mark.parametrize(("family", "layout"), MICRO_GRID)
def test_micro_batches_equal_one_device(family, layout, sample):
  if sample and (family, layout) != ("CLIP", "data 4 x tensor 2"):
    pytest.skip("a sample was asked for")
  check(family, layout, micro_batches=2)


def in_loops(run, kind):
  """Bytes of the collectives of a kind that stand in a loop."""
  found = collectives.find(run.text)
  return sum(x.bytes for x in found if x.kind == kind and "while/body" in x.source)


@pytest.mark.parametrize(
  ("family", "layout"),
  [
    ("CLIP", "data 2 x fsdp 4"),
    pytest.param("CFAM", ALL, marks=pytest.mark.proof),
  ],
)
def test_gradients_of_micro_batches_are_reduced_once(family, layout):
  given = dict(micro_batches=2, drop_path=0.0)
  check(family, layout, **given)
  once = in_loops(layouts.run(family, layout, **given), "all-reduce")
  # Random numbers are of the rows of all devices: there every piece is reduced.
  always = in_loops(layouts.run(family, layout, micro_batches=2), "all-reduce")
  size = sum(
    x.nbytes for x in jax.tree.leaves(layouts.run(family, ONE, 2).start.params)
  )
  assert always - once > 0.4 * size  # of the towers
  # Over tensor devices each block's own sums remain.
  assert once == 0 or "tensor" in layout


# ---- the loss is that of the global batch


def encoded(family):
  """(objective, parameters, prepared batch, features) of the first step, one device."""
  made, start = layouts.objective(family), layouts.run(family, ONE).start.params
  mask_key, drop_key = jax.random.split(jax.random.fold_in(jax.random.key(5), 0))
  batch = jax.jit(made.prepare)(layouts.batch(0), mask_key)
  out = jax.jit(made.encode)(start, batch, drop_key)
  return made, start, batch, {k: np.float64(v) for k, v in out.items()}


def infonce(text, image, scale):
  """(loss, its derivative by the logarithm of the scale), in float64."""
  cosine, own = text @ image.T, np.eye(len(text))
  logits = scale * cosine
  rows = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
  columns = np.exp(logits - np.logaddexp.reduce(logits, axis=0)[None, :])
  loss = -0.5 * np.mean(np.log(np.diag(rows)) + np.log(np.diag(columns)))
  slope = (0.5 * (rows + columns) - own) / len(text)
  return loss, scale * np.sum(slope * cosine)


def shards(array, count=8):
  return np.split(np.asarray(array), count)


def test_infonce_and_its_gradient_are_of_the_global_batch():
  run = layouts.run("CLIP", ALL)
  _, _, _, out = encoded("CLIP")
  loss, gradient = infonce(out["text"], out["image"], scale=50.0)
  assert run.metrics[0]["infonce"] == pytest.approx(loss, rel=1e-5)
  decay = 4e-5 * np.log(50.0)  # L2: part of what enters the moment
  assert 10 * run.gradients()["logit_scale"] - decay == pytest.approx(
    gradient, rel=1e-4
  )
  alone = [
    infonce(*pair, 50.0)
    for pair in zip(shards(out["text"]), shards(out["image"]), strict=True)
  ]
  local_loss, local_gradient = np.mean(alone, axis=0)
  assert abs(local_loss - loss) > 0.1 * loss
  assert abs(local_gradient - gradient) > 0.1 * abs(gradient)


def hardest(similarity, ids):
  """(text of each image, image of each text), of other people, by a slow search."""
  count, found = len(ids), ([], [])
  for at in range(count):
    others = [i for i in range(count) if ids[i] != ids[at]]
    found[0].append(max(others, key=lambda i: similarity[i, at]))
    found[1].append(max(others, key=lambda i: similarity[at, i]))
  return found


def matching(made, params, out, ids, groups):
  """The loss over pairs whose negatives are sought within each group of rows."""
  image, text = out["image_parts"], out["text_parts"]
  unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (text, image)]
  similarity = np.einsum("akw,bkw->ab", *unit) / image.shape[1]
  pairs = [(i, i, 1) for i in range(len(ids))]
  for rows in groups:
    if len(set(ids[rows])) < 2:
      continue
    texts, images = hardest(similarity[np.ix_(rows, rows)], ids[rows])
    pairs += [(rows[j], rows[i], 0) for j, i in enumerate(texts)]
    pairs += [(rows[j], rows[i], 0) for i, j in enumerate(images)]
  image_rows, text_rows, labels = np.array(pairs).T
  parts = jnp.float32(image[image_rows]), jnp.float32(text[text_rows])
  logits = np.float64(made.model.apply({"params": params}, *parts, method="match"))
  return np.mean(np.logaddexp(0, np.where(labels == 1, -logits, logits)))


@pytest.mark.proof
def test_hard_negatives_are_of_the_global_batch():
  run = layouts.run("CFAM", ALL)
  made, params, batch, out = encoded("CFAM")
  ids = np.asarray(batch["ids"])
  everywhere = matching(made, params, out, ids, [np.arange(len(ids))])
  found = run.metrics[0]["matching"]
  assert found == pytest.approx(everywhere, rel=1e-5)
  # A fresh matcher says nearly the same of all pairs: apart by 6e-4 and 1e-2.
  for count in (4, 8):
    apart = matching(made, params, out, ids, shards(np.arange(len(ids)), count))
    assert abs(apart - everywhere) > 2e-4 * everywhere


# ---- random numbers


@pytest.mark.parametrize("layout", ["fsdp 8", ALL])
def test_masks_and_random_numbers_do_not_know_the_layout(layout):
  made, where = layouts.objective("IRRA"), layouts.mesh(layout)

  def drawn(batch, key):
    kept = jax.random.bernoulli(key, 0.7, (layouts.ROWS, 1, 1))
    kept = sharding.split(kept, "batch")
    return made.prepare(batch, key), kept

  batch, key = layouts.batch(0), jax.random.key(9)
  expected = jax.device_get(jax.jit(drawn)(batch, key))
  rows = sharding.batch_sharding(where)
  spread = jax.jit(drawn, in_shardings=(rows, None), out_shardings=rows)
  found = jax.device_get(spread(sharding.to_global(batch, rows), key))
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert (expected[0]["text"] != batch["text"]).any()  # there are masks to differ
  other = jax.device_get(spread(sharding.to_global(batch, rows), jax.random.key(8)))
  assert (other[0]["text"] != expected[0]["text"]).any()


# ---- the work is divided, and what is sent is small


@pytest.mark.parametrize(("family", "layout"), ADAM)  # Muon's work is not
def test_the_work_is_divided(family, layout):
  one, run = layouts.run(family, ONE), layouts.run(family, layout)
  # Similarities, norms and the optimizer are not divided over every axis, and are a
  # larger share here than in a model of real size.
  assert run.flops * 8 / one.flops < 2.0


@pytest.mark.parametrize(("family", "layout"), TOWERS_ALONE)
def test_no_tokens_are_gathered(family, layout):
  run = layouts.run(family, layout)
  shapes = {leaf.shape for leaf in jax.tree.leaves(run.start.params)}
  large = max(np.prod(shape) for shape in shapes) * 4  # bytes
  moved = [
    found
    for found in collectives.find(run.text)
    if found.kind in ("all-gather", "all-to-all", "collective-permute")
  ]
  assert moved
  # The rows of a tower: images x patches or texts x words, of one device or of all.
  tokens = {layouts.ROWS * n for n in (9, layouts.config(family).text.length)}
  for found in moved:
    assert found.bytes <= large, found
    for shape in found.shapes:
      flat = shape[0] * shape[1] if len(shape) > 2 else shape[:1] and shape[0]
      assert flat not in tokens or "text/jit(_take)" in found.source, found


def test_the_similarities_are_divided_by_rows():
  text = layouts.run("CLIP", ALL).text
  rows = layouts.ROWS
  assert f"f32[{rows // 4},{rows}]" in text  # four devices split the batch
  whole = [line for line in text.splitlines() if f"= f32[{rows},{rows}]" in line]
  assert not [line for line in whole if " dot(" in line], whole
