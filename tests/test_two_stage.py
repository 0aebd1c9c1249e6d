"""A second score for the shortlists: which, of which pairs, and what becomes of it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small_run, tiny
from tests.data.noise import dataset
from tests.models import weights
from tpr_jax import config as configs
from tpr_jax import evaluate, pair_scores, second_stage, training, two_stage
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer, transforms
from tpr_jax.encoding import Encoder
from tpr_jax.evaluate import EvaluationError
from tpr_jax.experiment import Experiment
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.models import build
from tpr_jax.second_stage import STAGES
from tpr_jax.two_stage import Rerank

PEOPLE = tokenizer.build("people")
ONE = sharding.make_mesh({}, jax.devices()[:1])
EIGHT = sharding.make_mesh(dict(data=4, fsdp=2))
BIAS = np.full(1, 19.5, np.float32)
DATA = dataset(22, broken=(4,))  # 33 captions of 8 people


@pytest.fixture(scope="module")
def model():
  """(module, parameters) with parts and matcher, and a learnt temperature."""
  fields = dict(tiny.FIELDS, learn_scale=True)
  heads = ("parts", "matcher")
  module = build.build(fields, vocab_size=PEOPLE.vocab_size, heads=heads)
  image = np.zeros((1, *tiny.SIZE, 3), np.uint8)
  text = np.full((1, tiny.LENGTH), PEOPLE.end_id, np.int32)
  params = weights.drawn(module, image, text)["params"]
  # Logits on both sides of 0: drawn as they are, all lie close to one value.
  params["matcher"]["logit"]["kernel"] *= 20.0
  params["matcher"]["logit"]["bias"] = BIAS
  return module, jax.tree.map(jnp.asarray, params)


def encode(model, by="matcher", mesh=ONE, batch=8, data=DATA):
  return Encoder(model[0], mesh)(
    model[1],
    data,
    tokenizer=PEOPLE,
    pipe=transforms.build("resize(32,16)"),
    length=tiny.LENGTH,
    batch=batch,
    threads=1,
    stage=by and STAGES[by],
  )


@pytest.fixture(scope="module")
def features(model):
  return encode(model)


@pytest.fixture(scope="module")
def split(model):
  """The model with its parameters split over devices."""
  where = sharding.state_shardings(model[1], EIGHT, ((".*", "fsdp"),))
  return model[0], jax.device_put(model[1], where)


@pytest.fixture(scope="module")
def spread(split):
  """The same features, by eight devices in larger batches."""
  return encode(split, mesh=EIGHT, batch=16)


def second(model, features, columns, by, mesh=ONE, **changes):
  stage = dataclasses.replace(STAGES[by], **changes)
  kept = features.image_kept, features.text_kept
  return pair_scores.scores(stage, *model, *kept, columns, mesh=mesh)[0]


def ranked(features, top=7, mesh=ONE):
  return evaluate.score(features, DATA, top=top, mesh=mesh)


# ---- what is kept


def test_the_parts_of_every_picture_and_caption_are_kept(model, features):
  module, params = model
  assert features.image_kept["parts"].shape == (21, 3, 16)  # without the broken one
  assert features.text_kept["parts"].shape == (33, 3, 16)
  for side in (features.image_kept, features.text_kept):
    assert side["parts"].dtype == np.float32
  row = 6  # of record 7: number 4 is broken
  picture = DATA.load_image(DATA.records[features.image_record[row]], None)
  pipe = transforms.build("resize(32,16)")
  image = pipe(dict(image=picture, caption="", record=None), None)["image"][None]

  def parts(params, image):
    encode = lambda module: module.parts(module.encode_image(image)["image_tokens"])
    return module.apply({"params": params}, method=encode)

  found = jax.jit(parts)(params, image)[0]
  np.testing.assert_allclose(features.image_kept["parts"][row], found, atol=1e-5)


def test_nothing_is_kept_where_nothing_is_asked_for(model, features):
  plain = encode(model, by=None)
  assert plain.image_kept == {} and plain.text_kept == {}
  np.testing.assert_allclose(plain.image, features.image, atol=1e-6)
  np.testing.assert_allclose(plain.text, features.text, atol=1e-6)


def test_rows_kept_are_those_that_are_valid():
  for valid in ([1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1, 0], [1] * 6):
    kept = second_stage.Kept(3)
    for at in range(0, 6, 2):
      kept.add({"a": np.arange(at, at + 2), "b": np.full((2, 3), at)})
    found = kept.arrays(np.flatnonzero(valid))
    np.testing.assert_array_equal(found["a"], np.flatnonzero(valid))
    np.testing.assert_array_equal(found["b"][:, 1], np.flatnonzero(valid) // 2 * 2)


def test_the_size_on_the_host_is_told_before(model):
  how = Rerank("local")
  said = two_stage.memory(how, *model, DATA, tiny.SIZE, tiny.LENGTH)
  size = (22 + 33) * 3 * 16 * 4 / 2**30
  assert f"{size:.3f} GiB" in said and "22 images and 33 captions" in said


# ---- the second score


def test_each_stage_is_its_formula(model, features):
  module, params = model
  columns = ranked(features).result.top[:, :7]
  image = features.image_kept["parts"][columns].astype(np.float64)  # [Q, T, K, W]
  text = features.text_kept["parts"][:, None].astype(np.float64)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  local = (unit(image) * unit(text)).sum(axis=-1).mean(axis=-1)
  pairs = image.reshape(-1, 3, 16), np.repeat(text[:, 0], 7, axis=0)
  match = lambda params, *x: module.apply({"params": params}, *x, method="match")
  logits = jax.jit(match)(params, *pairs)
  logits = np.asarray(logits).reshape(columns.shape)
  probability = 1 / (1 + np.exp(-logits))
  assert probability.min() < 0.4 and probability.max() > 0.6
  for by, expected in (
    ("local", local),
    ("matcher", probability),
    ("local+matcher", local + probability),
  ):
    found = second(model, features, columns, by)
    assert found.dtype == np.float32 and found.shape == columns.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("by", ["local", "matcher"])
@pytest.mark.parametrize("block", [1, 5, 64])
def test_blocks_of_any_size_give_the_same(model, features, by, block):
  columns = ranked(features).result.top[:, :7]
  expected = second(model, features, columns, by)
  found = second(model, features, columns, by, block=block)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("top", [1, 7, 21])
def test_eight_devices_and_another_batch_give_the_same(
  model, split, features, spread, top
):
  """1e-5 on the second score; the metrics are equal."""
  how = Rerank("local+matcher", top=top)
  found = []
  for made, some, mesh in ((model, features, ONE), (split, spread, EIGHT)):
    first = ranked(some, top, mesh)
    columns = first.result.top[:, :top]
    scores = second(made, some, columns, how.by, mesh, block=16)
    again = two_stage.score(how, first, some, DATA, *made, name="n", mesh=mesh)
    found.append((columns, scores, again))
  np.testing.assert_array_equal(found[0][0], found[1][0])
  np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)
  assert found[0][2].scores["t2i"] == found[1][2].scores["t2i"]
  for name, value in found[0][2].rankings.items():
    other = found[1][2].rankings[name]
    if name == "score":
      np.testing.assert_allclose(value, other, atol=1e-5)
    else:
      np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("mesh", [ONE, EIGHT], ids=["one device", "eight"])
def test_a_gallery_too_large_for_a_device_gives_the_same(
  model, features, mesh, monkeypatch
):
  columns = ranked(features).result.top[:, :7]
  expected = second(model, features, columns, "matcher", mesh)
  monkeypatch.setattr(pair_scores, "GALLERY", 1000)  # 5 images at a time
  found = second(model, features, columns, "matcher", mesh, block=8)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_long_work_says_how_far_it_is(model, features, monkeypatch):
  monkeypatch.setattr(pair_scores, "_QUIET", -1.0)
  stage = dataclasses.replace(STAGES["local"], block=32)
  columns, said = ranked(features).result.top[:, :7], []
  args = (stage, *model, features.image_kept, features.text_kept, columns)
  pair_scores.scores(*args, mesh=ONE, say=said.append)
  assert len(said) == 6  # of 8 blocks: the last two are read back at the end
  assert said[0].startswith("    32 of 231 pairs, 0:0")


def test_another_scorer_is_one_entry(model, features, monkeypatch):
  """A scorer that keeps tokens and masks of its own, as a cross-encoder would."""

  def cross(module, image, text):
    tokens = np.float32(1) * text["tokens"] * text["mask"][..., None]
    return (image["tokens"].mean(axis=1) * tokens.mean(axis=1)).sum(axis=-1)

  entry = second_stage.SecondStage(
    heads=(),
    trained_by=(),
    image=lambda module, out: dict(tokens=out["image_tokens"]),
    text=lambda module, out: dict(tokens=out["text_tokens"], mask=out["text_mask"]),
    pairs=cross,
  )
  monkeypatch.setitem(STAGES, "cross", entry)
  some = encode(model, by="cross")
  assert some.text_kept["mask"].dtype == bool
  how = Rerank("cross", top=5, global_weight=0.0)
  found = two_stage.score(how, ranked(some), some, DATA, *model, name="n", mesh=ONE)
  tokens = some.text_kept["tokens"] * some.text_kept["mask"][..., None]
  scores = tokens.mean(axis=1) @ some.image_kept["tokens"].mean(axis=1).T
  columns = ranked(some).result.top[:, :5]
  best = columns[np.arange(33), np.take_along_axis(scores, columns, 1).argmax(axis=1)]
  np.testing.assert_array_equal(found.result.top[:, 0], best)


# ---- the evaluation


def test_the_shortlist_alone_moves_and_by_the_sum(model, features):
  first = ranked(features)
  columns = first.result.top[:, :7]
  scores = second(model, features, columns, "local")
  for weight in (0.0, 1.0, -2.5):
    how = Rerank("local", top=7, global_weight=weight)
    found = two_stage.score(how, first, features, DATA, *model, name="test", mesh=ONE)
    total = scores + weight * first.result.top_score[:, :7].astype(np.float64)
    order = np.argsort(-total, axis=1, kind="stable")
    top = np.take_along_axis(columns, order, axis=1)
    np.testing.assert_array_equal(found.result.top, top)
    identity = np.array([record.identity for record in DATA.records])
    gallery, asked = identity[features.image_record], identity[features.text_record]
    cosine = features.text @ features.image.T
    for query in range(len(top)):
      rest = [i for i in np.argsort(-cosine[query]) if i not in top[query]]
      right = gallery[[*top[query], *rest]] == asked[query]
      ranks = 1 + np.flatnonzero(right)
      assert found.result.first_rank[query] == ranks[0]
      precision = np.mean((1 + np.arange(len(ranks))) / ranks)
      assert found.result.ap[query] == pytest.approx(precision, abs=1e-6)
      inp = len(ranks) / ranks[-1]
      assert found.result.inp[query] == pytest.approx(inp, abs=1e-6)


def test_msd_is_missing_and_the_rest_has_its_interval(model, features):
  how = Rerank("matcher", top=1000)  # more than the gallery has
  first = ranked(features, top=1000)
  found = two_stage.score(
    how,
    first,
    features,
    DATA,
    *model,
    name="test",
    mesh=ONE,
    intervals=Bootstrap(resamples=50),
  )
  names = {"R1", "R5", "R10", "mAP", "mINP"}
  t2i, about = found.scores["t2i"], found.scores["rerank"]
  assert set(t2i["ci"]["scores"]) == names and names <= set(t2i)
  assert "mSD" not in t2i and "mSD" in first.scores["t2i"]
  assert np.isnan(found.rankings["sd"]).all()
  assert (about["by"], about["top"], about["pairs"]) == ("matcher", 21, 33 * 21)
  assert (about["combine"], about["views"]) == ("sum", 1)
  assert "processes" not in about and "cache" not in about
  assert 0 < about["seconds_per_query"] < 60
  assert "the first 21 of each query of test" in found.scores["note"]
  assert "ms per query" in found.scores["note"]
  assert found.rankings["top"].shape == (33, 10)
  assert json.loads(json.dumps(found.scores)) == found.scores


def test_a_second_score_that_is_no_number_is_an_error(model, features):
  broken = dataclasses.replace(
    features, text_kept={"parts": features.text_kept["parts"].copy()}
  )
  broken.text_kept["parts"][9] = np.nan
  with pytest.raises(EvaluationError, match=r"noise/train: .* query 9 are not finite"):
    how = Rerank("local", top=3)
    two_stage.score(how, ranked(broken), broken, DATA, *model, name="n", mesh=ONE)


# ---- the config


@pytest.mark.parametrize(
  ("change", "losses", "message"),
  [
    (dict(by="locl"), {}, "eval.rerank.by='locl': expected one of local, matcher"),
    (dict(by="local", top=0), {}, "eval.rerank.top=0: expected"),
    (dict(by="local", global_weight=np.inf), {}, "eval.rerank.global_weight=inf"),
    (
      dict(by="local", combine="max"),
      {},
      "eval.rerank.combine='max': expected one of sum, single, dist",
    ),
    (
      dict(by="local", combine="dist", processes=0),
      {},
      "eval.rerank.processes=0: expected .* 1 at least",
    ),
    (
      dict(by="local", combine="single", global_weight=-0.1),
      {},
      "global_weight=-0.1: with combine='single' expected 0 or more",
    ),
    (
      dict(by="local", cache="value"),
      {},
      "eval.rerank.cache='value': expected one of auto, keys, tokens",
    ),
    (
      dict(by="local", cache="keys"),
      {},
      r"cache='keys' would do nothing with by='local'.*\(those that do: itm\)",
    ),
    (dict(by="itm"), {}, "by='itm' needs the head 'itm'.*losses.itm above 0"),
    (
      dict(by="matcher"),
      dict(matching=0.0),
      r"by='matcher' needs the head 'matcher'.*losses.matching above 0.*active here:"
      " identity, infonce, sdm, sdm_local",
    ),
    (
      dict(by="local"),
      dict(matching=0.0, sdm_local=0.0),
      "needs the head 'parts'.*losses.sdm_local or losses.matching above 0",
    ),
  ],
)
def test_a_second_stage_that_cannot_be_is_named_before_anything_runs(
  tmp_path, change, losses, message
):
  config = small_run.config()
  config.eval.rerank.update(change)
  config.losses.update(losses)
  config.objective.negatives = "global"
  with pytest.raises(configs.ConfigError, match=message):
    training.run(Experiment(config, tmp_path / "run"))
  assert not (tmp_path / "run").exists()
  config.eval.rerank.by = ""
  assert Experiment(config, tmp_path).reranking() is None


def test_a_run_older_than_the_fields_is_scored_in_one_stage():
  losses, objective = tiny.LOSSES, tiny.OBJECTIVE
  assert two_stage.settings({}, losses, objective) is None
  given = dict(rerank=dict(by="local"))
  assert two_stage.settings(given, losses, objective) == Rerank(
    "local", 100, 1.0, "sum", 4, "auto"
  )
