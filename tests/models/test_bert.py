"""The BERT tower against what transformers computed, its modes and its promises."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import bert_side, weights
from tests.reference import make_bert_golden
from tpr_jax.convert import bert as convert_bert
from tpr_jax.core import sharding, tree
from tpr_jax.models.bert import BertTower
from tpr_jax.models.layers import post_norm
from tpr_jax.models.tied_words import TiedWords

CLOSE = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def golden():
  return bert_side.load()


@pytest.fixture(scope="module")
def params(golden):
  """{"text": ..., "words": ...}, converted."""
  wanted = {k: v for k, v in bert_side.shapes().items() if k.startswith(("te", "wo"))}
  return convert_bert.from_huggingface(golden[0], wanted)[0]


@functools.cache
def applied(method, **overrides):
  """Jitted: (params of the tower, arguments) -> the method's result, not training."""
  tower = BertTower(**{**bert_side.FIELDS, **overrides})
  call = functools.partial(tower.apply, method=method)
  return jax.jit(
    lambda params, *args, **kwargs: call({"params": params}, *args, **kwargs)
  )


def test_shapes_are_the_models_own(params):
  own = {
    k: v for k, v in bert_side.shapes().items() if k.startswith(("text/", "words/"))
  }
  assert tree.shapes(params) == own


def test_texts_agree_with_transformers_padding_included(golden, params):
  out = applied("text")(params["text"], golden[1]["ids"])
  np.testing.assert_allclose(out, golden[1]["text"], **CLOSE)


def test_fusion_agrees_with_transformers(golden, params):
  given = golden[1]
  args = given["ids"] != 0, given["image_tokens"], given["image_mask"]
  out = applied("fusion")(params["text"], given["text"], *args)
  np.testing.assert_allclose(out, given["fusion"], **CLOSE)
  # The image's mask counts: the test above can fail.
  loose = applied("fusion")(params["text"], given["text"], *args[:2])
  changed = np.abs(np.asarray(loose) - given["fusion"]).max(axis=(1, 2))
  assert (changed[[1, 2]] > 1e-3).all() and (changed[[0, 3]] < 1e-5).all()


def test_masked_words_agree_with_transformers(golden, params):
  given = golden[1]
  real = given["ids"] != 0
  states = applied("text")(params["text"], given["masked"], mask=real)
  args = states, real, given["image_tokens"], given["image_mask"]
  out = applied("fusion")(params["text"], *args)
  np.testing.assert_allclose(out, given["multi_modal"], **CLOSE)
  head = jax.jit(TiedWords().apply)
  words = head({"params": params["words"]}, out, params["text"]["token_embedding"])
  assert words.dtype == jnp.float32
  np.testing.assert_allclose(words, given["words"], atol=3e-5, rtol=1e-5)


def test_a_bert_without_images_agrees_with_transformers(golden):
  """The published model as it is: all layers read, none looks at an image."""
  plain = {k: v for k, v in golden[0].items() if "crossattention" not in k}
  tower = BertTower(**{**bert_side.FIELDS, "fusion_layer": 4})
  ids = golden[1]["ids"]
  made = jax.eval_shape(
    functools.partial(tower.init, method="text"), jax.random.key(0), ids
  )
  wanted = tree.shapes({"text": made["params"]})
  head = {k: v for k, v in plain.items() if k.startswith("bert.")}
  found, report = convert_bert.from_huggingface(head, wanted)
  assert not report.anew and not report.dropped
  out = applied("text", fusion_layer=4)(found["text"], ids)
  np.testing.assert_allclose(out, golden[1]["all_text"], **CLOSE)
  with pytest.raises(ValueError, match="leaves none of 4 layers"):
    tower.apply(
      {"params": found["text"]}, golden[1]["image_tokens"], method="image_keys"
    )


def test_keys_of_an_image_stand_for_its_tokens(golden, params):
  given, text = golden[1], params["text"]
  keys = applied("image_keys")(text, given["image_tokens"])
  assert keys.shape == (4, 2, 6, 64) and keys.dtype == jnp.float32
  fusion = applied("fusion")
  args = text, given["text"], given["ids"] != 0
  out = fusion(*args, image_mask=given["image_mask"], keys=keys)
  np.testing.assert_allclose(out, given["fusion"], **CLOSE)
  # One image against every text: gathered rows of keys.
  rows = np.array([2, 2, 2, 2])
  out = fusion(*args, keys=keys[rows])
  direct = fusion(*args, given["image_tokens"][rows])
  np.testing.assert_allclose(out, direct, **CLOSE)


def test_padding_is_not_looked_at(golden, params):
  ids = golden[1]["ids"].copy()
  text = applied("text")
  before = np.asarray(text(params["text"], ids))
  shorter = np.asarray(text(params["text"], ids[:1, :6]))
  np.testing.assert_allclose(before[:1, :5], shorter[:, :5], **CLOSE)
  moved = ids.copy()
  moved[0, 7] = 9  # now it is a word, and the others see it
  assert (
    np.abs(np.asarray(text(params["text"], moved))[0, :5] - before[0, :5]).max() > 1e-3
  )


def test_bfloat16_is_close_and_keeps_its_promises(golden, params):
  given = golden[1]
  out = applied("fusion", dtype="bfloat16")(
    params["text"],
    given["text"],
    given["ids"] != 0,
    given["image_tokens"],
    given["image_mask"],
  )
  assert out.dtype == jnp.bfloat16
  keys = applied("image_keys", dtype="bfloat16")(params["text"], given["image_tokens"])
  assert keys.dtype == jnp.bfloat16
  off = np.abs(np.asarray(out, np.float32) - given["fusion"])
  assert 1e-4 < off.max() < 0.15 and off.mean() < 0.02


# ---- training


def whole(**overrides):
  """(module of every part, a function: (params, batch, key, train) -> loss)."""
  made = bert_side.side(joint_dim=8, **overrides)

  def loss(params, batch, key, train=True):
    out = made.apply({"params": params}, *batch, train, rngs={"dropout": key})
    parts = ("image", "text", "itm", "words")
    return sum(jnp.mean(jnp.square(out[part] - 0.3)) for part in parts)

  return made, loss


@pytest.fixture(scope="module")
def batch(golden):
  return golden[1]["ids"], golden[1]["image_tokens"]


@pytest.fixture(scope="module")
def step(batch):
  """(gradient function, parameters, (loss, gradients) of a training step)."""
  module, loss = whole(layers=2, fusion_layer=1, dropout=0.0)
  params = weights.drawn(module, *batch)["params"]
  grad_fn = jax.value_and_grad(loss)
  return grad_fn, params, jax.jit(grad_fn)(params, batch, jax.random.key(1))


def test_every_part_learns_but_running_statistics(step):
  grads = step[2][1]
  still = {k for k, g in tree.flat(grads).items() if not np.any(np.asarray(g))}
  sides = ("image_projection", "text_projection")
  assert still == {f"{side}/bn/{x}" for side in sides for x in ("mean", "variance")}
  segments = np.asarray(grads["text"]["segment_embedding"])
  assert segments[0].any() and not segments[1].any()


def test_recomputed_layers_give_the_same_gradients(golden, batch):
  """With the same dropout: a layer that is recomputed draws what it drew before."""
  fields = {**bert_side.FIELDS, "layers": 2, "fusion_layer": 1, "dropout": 0.3}
  params = weights.drawn(BertTower(**fields), *batch)["params"]
  args = golden[1]["text"], batch[0] != 0, batch[1], None, True
  rngs = dict(dropout=jax.random.key(1, impl="unsafe_rbg"))  # compiles far faster

  def found(remat):
    tower = BertTower(**fields, remat=remat)
    out = lambda p: tower.apply({"params": p}, *args, method="fusion", rngs=rngs)
    return jax.jit(jax.grad(lambda p: jnp.mean(jnp.square(out(p) - 0.3))))(params)

  plain, again = found(False), found(True)
  assert np.any(np.asarray(plain["layer_1"]["cross_attn"]["kv"]["kernel"]))
  for ours, theirs in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-4)


def test_on_a_mesh_gradients_are_those_of_one_device(step, batch):
  """Heads over tensor devices, the token table by words, the batch over the rest."""
  grad_fn, params, expected = step
  mesh = sharding.make_mesh(dict(data=2, fsdp=2, tensor=2))
  params_sh = sharding.state_shardings(params, mesh, ("auto",))
  split = {k for k, s in tree.flat(params_sh).items() if "tensor" in str(s.spec)}
  kernels = ("attn/qkv", "attn/out", "mlp/fc", "mlp/proj")
  kernels += ("cross_attn/q", "cross_attn/kv", "cross_attn/out")
  assert {f"text/layer_1/{name}/kernel" for name in kernels} <= split
  assert "text/token_embedding" in split
  on_mesh = jax.jit(sharding.on_mesh(grad_fn, mesh, params_sh))
  rows = jax.device_put(batch, sharding.batch_sharding(mesh))
  found = on_mesh(jax.device_put(params, params_sh), rows, jax.random.key(1))
  for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


def test_keys_on_a_mesh_are_those_of_one_device(golden, params):
  given, mesh = golden[1], sharding.make_mesh(dict(data=4, tensor=2))
  tower = BertTower(**bert_side.FIELDS)

  def both(params, batch, key):
    variables, (ids, tokens) = {"params": params}, batch
    keys = tower.apply(variables, tokens, method="image_keys")
    states = tower.apply(variables, ids, method="text")
    return tower.apply(variables, states, ids != 0, keys=keys, method="fusion"), params

  text = params["text"]
  params_sh = sharding.state_shardings(text, mesh, ("auto",))
  on_mesh = jax.jit(sharding.on_mesh(both, mesh, params_sh))
  batch = given["ids"], given["image_tokens"]
  out, _ = on_mesh(
    jax.device_put(text, params_sh),
    jax.device_put(batch, sharding.batch_sharding(mesh)),
    jax.random.key(0),
  )
  direct = applied("fusion")(text, given["text"], given["ids"] != 0, batch[1])
  np.testing.assert_allclose(out, direct, **CLOSE)


def test_dropout_is_of_training_alone(golden, params):
  given = golden[1]
  tower = BertTower(**{**bert_side.FIELDS, "dropout": 0.5})

  @functools.partial(jax.jit, static_argnums=1)
  def run(key, train):
    states = tower.apply(
      {"params": params["text"]},
      given["ids"],
      train,
      method="text",
      rngs=dict(dropout=key),
    )
    return states

  one, other = jax.random.key(0), jax.random.key(1)
  np.testing.assert_allclose(run(one, False), given["text"], **CLOSE)
  assert np.abs(run(one, True) - run(other, True)).max() > 0.1
  np.testing.assert_array_equal(run(one, True), run(one, True))


def test_attention_weights_are_dropped_too():
  x = np.random.default_rng(0).normal(size=(2, 5, 32)).astype(np.float32)
  layer = post_norm.SelfAttention(32, 4, dropout=1.0)
  params = layer.init(jax.random.key(0), x, None)
  rngs = dict(dropout=jax.random.key(1))
  assert not np.any(layer.apply(params, x, None, True, rngs=rngs))
  assert np.any(layer.apply(params, x, None, False))
  cross = post_norm.CrossAttention(32, 4, dropout=1.0)
  params = cross.init(jax.random.key(0), x, x, None)
  assert not np.any(cross.apply(params, x, x, None, True, rngs=rngs))
  assert np.any(cross.apply(params, x, x, None, False))
  for name in ("q", "kv", "out"):  # BERT's initial values
    kernel = params["params"][name]["kernel"]
    np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.1)


# ---- sizes


def total(part, full=True, joint_dim=2048, leave="/bn/(mean|variance)"):
  return sum(
    int(np.prod(shape))
    for name, shape in bert_side.shapes(full, joint_dim).items()
    if re.search(part, name) and not re.search(leave, name)
  )


def test_parameters_are_the_published_numbers():
  """BERT-base with MRA's fusion; without Swin-B's own, to the unit."""
  cross = total("cross_attn|ln_cross")
  tower = total("^text/")
  assert cross == 16_542_720 and tower - cross == 108_891_648
  assert total("^words/") == 622_650 and total("^itm/") == 1_187_330
  assert total("projection") == 12_599_296
  assert total("projection", joint_dim=256) == 459_264
  swin_224, swin_384 = 86_743_224, 86_753_016
  assert total("") + swin_224 == 226_586_869
  assert total("") + swin_384 == 226_596_661
  assert total("", joint_dim=256) + swin_384 == 214_456_629
  # The running statistics are leaves beside those: two of 3072 for each modality.
  assert total("bn/(mean|variance)", leave="^$") == 4 * 3072


# ---- errors


def test_errors_say_what_to_do(golden, params):
  given, text = golden[1], params["text"]
  with pytest.raises(ValueError, match=r"15 tokens.*holds 14"):
    applied("text")(text, np.ones((1, 15), np.int32))
  states, mask = given["text"], given["ids"] != 0
  with pytest.raises(ValueError, match="found neither"):
    applied("fusion")(text, states, mask)
  with pytest.raises(ValueError, match=r"width 32.*built for 24"):
    applied("fusion")(text, states, mask, np.zeros((4, 6, 32), np.float32))
  with pytest.raises(ValueError, match=r"found both"):
    applied("fusion")(
      text,
      states,
      mask,
      given["image_tokens"],
      keys=np.zeros((4, 2, 6, 64), np.float32),
    )
  with pytest.raises(ValueError, match=r"\(4, 3, 6, 64\).*\[pairs, 2, tokens, 64\]"):
    applied("fusion")(text, states, mask, keys=np.zeros((4, 3, 6, 64), np.float32))
  with pytest.raises(ValueError, match=r"fusion_layer=5 of 4 layers; expected 1 to 4"):
    applied("text", fusion_layer=5)(text, given["ids"])
  with pytest.raises(ValueError, match=r"width 32 is not a multiple of 5 heads"):
    applied("text", heads=5)(text, given["ids"])


def test_golden_arrays_are_what_the_script_makes(golden):
  pytest.importorskip("torch", reason="torch makes the golden arrays of BERT")
  made = make_bert_golden.make()
  with np.load(bert_side.PATH) as file:
    assert set(file.files) == set(made)
    for name, value in made.items():
      np.testing.assert_allclose(file[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
