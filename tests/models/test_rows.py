"""A feature alone, without its other tokens: the same numbers for less work."""

import jax
import numpy as np
import pytest

from tests import tiny, tiny_cross
from tpr_jax import flops
from tpr_jax.models import build

TINY = dict(tiny.FIELDS, vision_layers=2, text_layers=2)


@pytest.fixture(scope="module")
def clip():
  model = build.build(TINY, vocab_size=tiny.VOCAB)
  batch = tiny.batch(5)
  params = model.init(jax.random.key(0), batch["image"], batch["text"])["params"]
  return model, params


def applied(model, params, x, method):
  return jax.jit(lambda p, x: model.apply({"params": p}, x, method=method))(params, x)


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("kind", ["clip", "cross"])
def test_rows_are_those_of_the_whole_pass(kind, side, clip):
  if kind == "clip":
    (model, params), batch = clip, tiny.batch(5)
  else:
    model, batch = tiny_cross.model(), tiny_cross.batch(5)
    params = tiny_cross.params(model)
  rows = applied(model, params, batch[side], f"{side}_rows")
  whole = applied(model, params, batch[side], f"encode_{side}")[side]
  np.testing.assert_allclose(rows, whole, atol=2e-6)


def test_the_last_block_works_for_one_token(clip):
  model, params = clip
  batch = tiny.batch(5)

  def count(side, method):
    apply = lambda p, x: model.apply({"params": p}, x, method=method)
    return flops.count(apply, params, batch[side]).total

  for side in ("image", "text"):
    less, all_of_it = count(side, f"{side}_rows"), count(side, f"encode_{side}")
    # Of two blocks the second loses its MLP, two thirds of it, for all but one token.
    assert less < 0.75 * all_of_it


def test_remat_does_not_matter(clip):
  model, params = clip
  again = build.build(dict(TINY, remat=True), vocab_size=tiny.VOCAB)
  image = tiny.batch(5)["image"]
  plain, found = (applied(m, params, image, "image_rows") for m in (model, again))
  np.testing.assert_allclose(found, plain, atol=1e-6)
