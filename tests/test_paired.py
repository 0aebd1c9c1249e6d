"""Towers with the heads that score pairs: the same numbers as an evaluation's."""

import numpy as np
import pytest

import tpr_jax
from tests import small_run, test_aptm_run, written_run
from tests.export import models
from tpr_jax import second_stage
from tpr_jax.convert.source import ConvertError
from tpr_jax.export import huggingface
from tpr_jax.paired import Paired

TEXTS = ["a man in a red coat", "a woman", "a child with a blue bag and a white cap"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(folder, parameters) of a run with parts and a matcher."""
  folder = tmp_path_factory.mktemp("paired") / "cfam"
  _, params = written_run.write(folder, scores={3: 20.0}, config=small_run.config())
  return folder, params[3]


@pytest.fixture(scope="module")
def pictures():
  rng = np.random.default_rng(0)
  return list(rng.integers(0, 256, (5, 50, 20, 3), dtype=np.uint8))


@pytest.mark.parametrize("by", ["local", "matcher", "local+matcher"])
def test_scores_are_those_of_the_stage(run, pictures, by):
  folder, params = run
  model = tpr_jax.load(folder, second_stage=by, batch=4)
  assert isinstance(model, Paired) and model.by == by
  rows, images = model.keep_images(pictures)
  text_rows, texts = model.keep_texts(TEXTS)
  plain = tpr_jax.load(folder, batch=4)
  np.testing.assert_allclose(rows, plain.encode_images(pictures), atol=2e-6)
  np.testing.assert_allclose(text_rows, plain.encode_texts(TEXTS), atol=2e-6)
  found = np.stack([model.pair_scores(text, images) for text in texts])
  # Pair by pair, from the run's own parameters.
  parts = lambda tokens, mask=None: model.model.apply(
    {"params": params}, tokens, mask, method="parts"
  )
  stage = second_stage.STAGES[by]
  for t, text in enumerate(TEXTS):
    ids = model.tokenizer.encode([text], model.text_length)[0]
    out = model.model.apply({"params": params}, ids, method="encode_text")
    of_text = parts(out["text_tokens"], out["text_mask"])
    for i, picture in enumerate(pictures):
      small = model._resize(dict(image=picture), None)["image"]
      out = model.model.apply({"params": params}, small[None], method="encode_image")
      of_image = parts(out["image_tokens"])
      score = model.model.apply(
        {"params": params},
        dict(parts=of_image),
        dict(parts=of_text),
        method=stage.pairs,
      )
      assert found[t, i] == pytest.approx(float(score[0]), abs=2e-5)


def test_what_is_kept_is_described(run, pictures):
  model = tpr_jax.load(run[0], second_stage="local")
  _, (kept,) = model.keep_images(pictures[:1])
  assert {k: v.shape for k, v in kept.items()} == model.kept_shapes()


def test_nothing_given(run):
  model = tpr_jax.load(run[0], second_stage="local")
  for rows, kept in (model.keep_images([]), model.keep_texts([])):
    assert rows.shape == (0, model.dim) and kept == []
  assert len(model.pair_scores(model.keep_texts(["a"])[1][0], [])) == 0


def test_more_pairs_than_a_block(run, pictures, monkeypatch):
  whole = tpr_jax.load(run[0], second_stage="local")
  _, images = whole.keep_images(pictures)
  _, (text,) = whole.keep_texts(TEXTS[:1])
  small = second_stage.SecondStage(**{**vars(second_stage.STAGES["local"]), "block": 2})
  monkeypatch.setitem(second_stage.STAGES, "local", small)
  parts = tpr_jax.load(run[0], second_stage="local")
  found = parts.pair_scores(text, images)
  np.testing.assert_allclose(found, whole.pair_scores(text, images), atol=1e-6)


def test_weights_without_the_head(run):
  with pytest.raises(ConvertError, match=r"by 'itm': it lacks 'itm'.*losses\.itm"):
    tpr_jax.load(run[0], second_stage="itm")
  with pytest.raises(ConvertError, match=r"expected one of local, matcher"):
    tpr_jax.load(run[0], second_stage="nearest")


def test_published_towers_have_no_head(tmp_path):
  huggingface.write(models.random(), tmp_path)
  with pytest.raises(ConvertError, match="published towers and exports"):
    tpr_jax.load(tmp_path, second_stage="local")


def test_the_cross_encoder_of_a_run(tmp_path, pictures):
  config = test_aptm_run.config().lock()
  _, params = written_run.write(tmp_path / "aptm", scores={3: 20.0}, config=config)
  model = tpr_jax.load(tmp_path / "aptm", second_stage="itm")
  rows, images = model.keep_images(pictures)
  text_rows, texts = model.keep_texts(TEXTS)
  plain = tpr_jax.load(tmp_path / "aptm")
  np.testing.assert_allclose(rows, plain.encode_images(pictures), atol=2e-6)
  np.testing.assert_allclose(text_rows, plain.encode_texts(TEXTS), atol=2e-6)
  assert model.kept_shapes()["tokens"] == images[0]["tokens"].shape
  for text in texts:
    found = model.pair_scores(text, images)
    for i, image in enumerate(images):
      logits = model.model.apply(
        {"params": params[3]},
        text["tokens"][None],
        text["mask"][None],
        image["tokens"][None],
        method="pair_logits",
      )
      assert found[i] == pytest.approx(float(logits[0, 1]), abs=2e-5)
  with pytest.raises(ConvertError, match="it lacks 'parts'"):
    tpr_jax.load(tmp_path / "aptm", second_stage="local")
