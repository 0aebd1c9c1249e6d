"""Mirror images: averaged features as unit rows of one more column."""

import jax
import numpy as np
import pytest
from PIL import Image

from tests import cross_encoder, tiny
from tests.data import noise
from tpr_jax import encoding, evaluate, feature_files
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer, transforms

PEOPLE = tokenizer.build("people")
PIPE = transforms.build("resize(32,16)")
ONE = sharding.make_mesh({}, jax.devices()[:1])
EIGHT = sharding.make_mesh(dict(data=4, fsdp=2))


class Mirrored(noise.Pictures):
  """The pictures as they would be in a mirror."""

  def __call__(self, record, size):
    return np.ascontiguousarray(super().__call__(record, size)[:, ::-1])


@pytest.fixture(scope="module")
def model():
  return cross_encoder.model(PEOPLE.vocab_size)


def encode(encoder, params, load, batch=8):
  data = noise.dataset(19, load=load)
  words = dict(tokenizer=PEOPLE, length=tiny.LENGTH)
  return data, encoder(params, data, pipe=PIPE, batch=batch, threads=1, **words)


@pytest.fixture(scope="module")
def plain(model):
  """Features of the images, and of their mirror images, without flip."""
  encoder = encoding.Encoder(model[0], ONE)
  loads = noise.Pictures((4,)), Mirrored((4,))
  return [encode(encoder, model[1], load)[1] for load in loads]


@pytest.mark.parametrize(
  ("mesh", "batch"), [(ONE, 8), (EIGHT, 16)], ids=["one device", "eight"]
)
def test_image_features_are_the_mean_of_both_and_stay_short(model, plain, mesh, batch):
  encoder = encoding.Encoder(model[0], mesh, flip=True)
  data, found = encode(encoder, model[1], noise.Pictures((4,)), batch)
  mean = (plain[0].image + plain[1].image) / 2
  assert np.linalg.norm(mean, axis=1).min() < 0.8
  assert found.image.shape == (18, cross_encoder.WIDTH + 1)
  np.testing.assert_array_equal(found.image_record, plain[0].image_record)
  for rows in (found.image, found.text):
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
  # Resizing before or after the mirror differs by less than a grey level.
  np.testing.assert_allclose(found.image[:, :-1], mean, atol=0.01)
  np.testing.assert_allclose(found.text[:, :-1], plain[0].text, atol=1e-6)
  assert not found.text[:, -1].any()
  # The ranking is by the product with the mean as it is, not with its direction.
  result = evaluate.score(found, data, i2t=True).result
  cosine = plain[0].text @ mean.T
  np.testing.assert_allclose(-np.sort(-cosine)[:, :10], result.top_score, atol=0.01)
  # Of arrays the same rows, as saliency needs them.
  records = data.records[:4]
  images = np.stack(
    [PIPE(dict(image=noise.Pictures()(r, None)), None)["image"] for r in records]
  )
  again = encoder.images(model[1], images, batch)
  np.testing.assert_allclose(again, found.image[:4], atol=1e-6)
  tokens = PEOPLE.encode([r.captions[0] for r in records], tiny.LENGTH)[0]
  some = encoder.texts(model[1], tokens, batch)
  first = [np.flatnonzero(found.text_record == i)[0] for i in range(4)]
  np.testing.assert_allclose(some, found.text[first], atol=1e-6)


def test_a_symmetric_image_keeps_its_feature(model):
  encoder = encoding.Encoder(model[0], ONE, flip=True)
  half = np.random.default_rng(0).integers(0, 256, (3, 32, 8, 3), np.uint8)
  images = np.concatenate([half, half[:, :, ::-1]], axis=2)
  found = encoder.images(model[1], images, 8)
  alone = encoding.Encoder(model[0], ONE).images(model[1], images, 8)
  np.testing.assert_allclose(found[:, :-1], alone, atol=1e-6)
  np.testing.assert_allclose(found[:, -1], 0.0, atol=1e-3)


def test_saved_features_rank_as_the_averaged_ones(model, tmp_path):
  encoder = encoding.Encoder(model[0], ONE, flip=True)
  data, found = encode(encoder, model[1], noise.Pictures())
  scored = evaluate.score(found, data)
  evaluate.save(found, data, tmp_path / "f.npz")
  read = feature_files.read(str(tmp_path / "f.npz"))
  again = evaluate.score_arrays(
    read.query, read.gallery, read.query_ids, read.gallery_ids, where="f"
  )
  assert again.scores["t2i"] == scored.scores["t2i"]


@pytest.mark.parametrize("size", [(30, 14), (200, 91), (9, 40)])
def test_the_mirror_image_of_a_resized_picture_is_the_resized_mirror_image(size):
  picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  for name in ("bilinear", "bicubic"):
    pipe = transforms.Resize(32, 16, name)
    resize = lambda x, pipe=pipe: pipe(dict(image=x), None)["image"].astype(int)
    before = resize(np.asarray(Image.fromarray(picture[:, ::-1].copy())))
    assert np.abs(before - resize(picture)[:, ::-1]).max() <= 1
