"""A cross-encoder as the second stage: what is kept, in pieces, and what becomes of it.

Also with mirror images, and against the slow transcription of APTM's evaluation.
"""

import dataclasses

import jax
import numpy as np
import pytest

from tests import cross_encoder, tiny
from tests.data.noise import dataset
from tests.reference import two_stage as reference
from tpr_jax import evaluate, pair_scores, two_stage
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer, transforms
from tpr_jax.encoding import Encoder
from tpr_jax.second_stage import STAGES
from tpr_jax.two_stage import Rerank

PEOPLE = tokenizer.build("people")
ONE = sharding.make_mesh({}, jax.devices()[:1])
EIGHT = sharding.make_mesh(dict(data=4, fsdp=2))
DATA = dataset(22, broken=(4,))  # 33 captions of 8 people
ITM = STAGES["itm"]
TOKENS = dataclasses.replace(ITM, ready=None)
TOP = 7
# Bytes of the tokens of an image, and of the keys and values made of them.
TOKEN_BYTES = 4 * 9 * cross_encoder.WIDTH
KEY_BYTES = 2 * cross_encoder.LAYERS * TOKEN_BYTES


@pytest.fixture(scope="module")
def model():
  return cross_encoder.model(PEOPLE.vocab_size)


def encode(model, flip, mesh=ONE, stage=ITM, data=DATA):
  return Encoder(model[0], mesh, flip=flip)(
    model[1],
    data,
    tokenizer=PEOPLE,
    pipe=transforms.build("resize(32,16)"),
    length=tiny.LENGTH,
    batch=8,
    threads=1,
    stage=stage,
  )


@pytest.fixture(scope="module")
def features(model):
  """Of images and their mirror images, by one device."""
  return encode(model, flip=True)


@pytest.fixture(scope="module")
def columns(features):
  return evaluate.score(features, DATA, top=TOP).result.top[:, :TOP]


def itm(model, features, columns, stage=ITM, mesh=ONE, images=None):
  images = features.image_kept if images is None else images
  kept = images, features.text_kept
  return pair_scores.scores(stage, *model, *kept, columns, mesh=mesh)[0]


@pytest.fixture(scope="module")
def expected(model, features, columns):
  """Logits of class 1 of the shortlists, all pairs at once and without any stage."""
  module, params = model
  texts = {k: np.repeat(v, TOP, axis=0) for k, v in features.text_kept.items()}
  images = features.image_kept["tokens"][columns.ravel()]

  def logits(params, tokens, mask, images):
    args = tokens, mask, images
    return module.apply({"params": params}, *args, method="pair_logits")

  found = jax.jit(logits)(params, texts["tokens"], texts["mask"], images)
  return np.asarray(found)[:, 1].reshape(columns.shape)


def test_tokens_of_both_sides_are_kept(features):
  assert features.image_kept["tokens"].shape == (21, 9, 8)
  assert features.mirrored_kept["tokens"].shape == (21, 9, 8)
  assert features.text_kept["tokens"].shape == (33, tiny.LENGTH, 8)
  assert features.text_kept["mask"].dtype == bool
  differ = features.image_kept["tokens"] != features.mirrored_kept["tokens"]
  assert differ.any(axis=(1, 2)).all()


def test_the_score_is_the_raw_logit(model, features, columns, expected):
  found = itm(model, features, columns)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert found.min() < -1  # no probability


@pytest.mark.parametrize("stage", [ITM, TOKENS], ids=["keys", "tokens"])
@pytest.mark.parametrize("mesh", [ONE, EIGHT], ids=["one device", "eight"])
@pytest.mark.parametrize("images", [21, 6, 1])
def test_keys_tokens_pieces_and_devices_give_the_same(
  model, features, columns, expected, stage, mesh, images, monkeypatch
):
  one = TOKEN_BYTES if stage is TOKENS else KEY_BYTES
  monkeypatch.setattr(pair_scores, "GALLERY", images * one)
  number, each = pair_scores.pieces(stage, *model, features.image_kept)
  assert (number, each) == {21: (1, 21), 6: (4, 6), 1: (21, 1)}[images]
  small = dataclasses.replace(stage, block=16)
  found = itm(model, features, columns, small, mesh)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_image_goes_to_the_device_once(model, features, columns, monkeypatch):
  monkeypatch.setattr(pair_scores, "GALLERY", 6 * KEY_BYTES)
  held, hold = [], pair_scores._held
  monkeypatch.setattr(
    pair_scores, "_held", lambda *args: held.append(args[-1]) or hold(*args)
  )
  itm(model, features, columns, dataclasses.replace(ITM, block=16))
  assert held == [0, 0, 1, 2, 3]  # the first one to compile


@pytest.mark.parametrize(("each", "size"), [(30, 16), (7, 16), (7, 1), (1, 64)])
def test_blocks_hold_every_pair_once_in_fixed_shapes(each, size):
  rng = np.random.default_rng(each)
  columns = np.array([rng.permutation(30)[:9] for _ in range(11)])
  seen, numbers, shapes = [], [], set()
  for number, block in pair_scores._Plan(columns, each, size):
    image, text = block.image + number * each, block.texts[block.text]
    pairs = len(block.pairs)
    np.testing.assert_array_equal(image[:pairs], columns.ravel()[block.pairs])
    np.testing.assert_array_equal(text[:pairs], block.pairs // 9)
    assert (block.image >= 0).all() and (block.image < each).all()
    seen += block.pairs.tolist()
    numbers.append(number)
    shapes.add((len(block.image), len(block.text), len(block.texts)))
  assert sorted(seen) == list(range(99)) and numbers == sorted(numbers)
  ((pairs, _, texts),) = shapes
  assert pairs == size and texts <= min(size, 11)


def test_images_are_made_ready_where_there_is_room(model, features, monkeypatch):
  choose = lambda cache, stage=ITM: pair_scores.cached(
    stage, cache, *model, features.image_kept
  )
  assert choose("auto") is ITM and choose("keys") is ITM
  assert choose("tokens") == TOKENS
  monkeypatch.setattr(pair_scores, "GALLERY", pair_scores.FEWEST * KEY_BYTES - 1)
  assert choose("auto") == TOKENS and choose("keys") is ITM
  assert choose("auto", STAGES["local"]) is STAGES["local"]


def test_the_size_on_the_host_and_the_pieces_are_told(model, monkeypatch):
  told = lambda how, **more: two_stage.memory(
    how, *model, DATA, tiny.SIZE, tiny.LENGTH, **more
  )
  texts = 33 * tiny.LENGTH * (4 * 8 + 1)
  plain, both = told(Rerank("itm")), told(Rerank("itm"), flip=True)
  assert f"{(22 * TOKEN_BYTES + texts) / 2**30:.3f} GiB" in plain
  assert "22 images, their mirror images and 33 captions" in both
  assert "pieces" not in plain
  monkeypatch.setattr(pair_scores, "GALLERY", 6 * KEY_BYTES)
  assert "in 4 pieces" in told(Rerank("itm", cache="keys"))
  assert "pieces" not in told(Rerank("itm", cache="tokens"))


# ---- the evaluation


CASES = [
  ("single", 4, 1),
  ("dist", 1, 1),
  ("dist", 4, 4),
  ("dist", 3, 3),
]


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("mesh", [ONE, EIGHT], ids=["one device", "eight"])
def test_the_evaluation_is_that_of_whole_matrices(model, features, mesh, flip):
  """Every number of the lists of all 21 images, from logits of all pairs."""
  if not flip:
    features = encode(model, flip=False, mesh=mesh)
  first = evaluate.score(features, DATA, top=TOP)
  everything = np.tile(np.arange(21), (33, 1))
  views = [features.image_kept, features.mirrored_kept][: 1 + flip]
  logits = [itm(model, features, everything, images=view) for view in views]
  cosine = (features.text @ features.image.T).astype(np.float64)
  text_id, image_id = evaluate.identities(features, DATA)
  same = text_id[:, None] == image_id
  firsts = set()
  for combine, processes, simulated in CASES:
    how = Rerank("itm", TOP, 0.002, combine, processes)
    found = two_stage.score(how, first, features, DATA, *model, name="n", mesh=mesh)
    whole = reference.evaluation(cosine, logits, TOP, 0.002, simulated)
    lists = np.argsort(-np.round(whole, 9), axis=1, kind="stable")
    np.testing.assert_array_equal(found.result.top[:, :TOP], lists[:, :TOP])
    numbers = [reference.list_numbers(same[q, lists[q]]) for q in range(33)]
    first_rank, ap, inp = map(np.array, zip(*numbers, strict=True))
    t2i, asked = found.scores["t2i"], first_rank > 0
    for score, value in (
      ("R1", first_rank[asked] <= 1),
      ("R5", first_rank[asked] <= 5),
      ("R10", first_rank[asked] <= 10),
      ("mAP", ap[asked]),
      ("mINP", inp[asked]),
    ):
      assert t2i[score] == pytest.approx(100 * value.mean(), abs=1e-4), score
    about = found.scores["rerank"]
    assert about.get("processes") == (processes if combine == "dist" else None)
    assert (about["combine"], about["views"]) == (combine, 1 + flip)
    assert (about["cache"], about["pairs"]) == ("keys", 33 * TOP * (1 + flip))
    firsts.add(tuple(found.result.top[:, 0]))
  assert len(firsts) > 1  # how many processes it stands for matters


def test_the_note_says_how_the_number_was_made(model, features):
  first = evaluate.score(features, DATA, top=TOP)
  said = {}
  for combine in two_stage.COMBINE:
    how = Rerank("itm", TOP, 0.002, combine)
    found = two_stage.score(how, first, features, DATA, *model, name="n", mesh=ONE)
    said[combine] = found.scores["note"].split("ordered again by ")[1]
  begins = "itm + 0.002 x cosine, "
  assert said["sum"].startswith(f"{begins}mean of image and mirror image, ")
  assert said["single"].startswith(f"{begins}scaled over all pairs, mean of")
  assert said["dist"].startswith(f"{begins}scaled as 4 processes do, mean of")


def test_second_scores_of_both_views_are_averaged(model, features, columns):
  first = evaluate.score(features, DATA, top=TOP)
  how = Rerank("itm", TOP, 0.0)
  found = two_stage.score(how, first, features, DATA, *model, name="n", mesh=ONE)
  views = features.image_kept, features.mirrored_kept
  both = [itm(model, features, columns, images=view) for view in views]
  assert np.abs(both[0] - both[1]).max() > 0.1
  best = columns[np.arange(33), np.mean(both, axis=0).argmax(axis=1)]
  np.testing.assert_array_equal(found.result.top[:, 0], best)
