"""BLIP-2's contrastive head through transformers; skipped without torch."""

import numpy as np
import pytest

from tpr_jax.filter import blip2, settings
from tpr_jax.filter.problems import FilterError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "red", "coat", ","]


def test_captions_are_those_of_lavis():
  said = 'A  Man, "in"\n(red) coat!. it\'s well-worn: yes; #1 ~ *'
  assert blip2.clean(said) == "a man, in red coat it's well-worn yes 1"
  assert len(blip2.clean("word " * 60).split()) == 50


def test_pictures_are_squashed():
  class Tall:
    config = type("C", (), {"vision_config": type("V", (), {"image_size": 8})})

  scorer = blip2.Blip2(Tall, None, 2)
  tall = np.zeros((40, 10, 3), np.uint8)
  tall[20:] = 255  # the lower half stays the lower half: nothing is cropped
  made = scorer.prepare(tall)
  assert made.shape == (8, 8, 3)
  assert made[:3].max() == 0 and made[5:].min() == 255


def test_without_torch_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "torch", None)
  asked = settings.Scorer("blip2_itc", "nowhere", 4, "float32", {})
  with pytest.raises(FilterError, match=r"pip install 'tpr_jax\[torch\]'"):
    blip2.Blip2.load(asked)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a tiny model and its tokenizer, as transformers writes them."""
  torch = pytest.importorskip("torch")
  import transformers as tf

  folder = tmp_path_factory.mktemp("blip2")
  small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2)
  small["num_attention_heads"] = 2
  config = tf.Blip2Config(
    vision_config=dict(small, image_size=28, patch_size=14),
    qformer_config=dict(
      small, vocab_size=len(WORDS), encoder_hidden_size=16, use_qformer_text_input=True
    ),
    text_config=dict(model_type="opt", vocab_size=20, hidden_size=16),
    num_query_tokens=4,
    image_text_hidden_size=8,
  )
  torch.manual_seed(0)
  tf.Blip2ForImageTextRetrieval(config).save_pretrained(folder)
  (folder / "vocab.txt").write_text("\n".join(WORDS))
  tf.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
  return str(folder)


def test_scores_are_those_of_transformers(place):
  torch = pytest.importorskip("torch")
  asked = settings.Scorer("blip2_itc", place, 3, "float32", {})
  scorer = blip2.Blip2.load(asked)
  assert "4 queries, 8 dimensions" in repr(scorer)
  rng = np.random.default_rng(0)
  pictures = rng.integers(0, 256, (5, 40, 16, 3)).astype(np.uint8)
  texts = ["A man!", "a red, red coat", "coat", "man a man a man", "red"]
  prepared = list(map(scorer.prepare, pictures))
  image, text = scorer.encode_images(prepared), scorer.encode_texts(texts)
  assert image.shape == (5, 4, 8) and text.shape == (5, 8)
  np.testing.assert_allclose(np.linalg.norm(image, axis=-1), 1, atol=1e-5)
  # The model's own forward, one pair of everything at a time.
  given = scorer.words([blip2.clean(t) for t in texts], padding=True)
  scaled = (np.stack(prepared) / 255 - blip2.MEAN) / blip2.STD
  with torch.inference_mode():
    out = scorer.model(
      pixel_values=torch.tensor(scaled, dtype=torch.float32).permute(0, 3, 1, 2),
      input_ids=torch.tensor(given["input_ids"]),
      attention_mask=torch.tensor(given["attention_mask"]),
    )
  ours = np.einsum("nqd,md->nqm", image, text).max(1)
  np.testing.assert_allclose(ours, out.logits_per_image.numpy(), atol=1e-5)


def test_a_place_without_such_a_model_is_named(tmp_path):
  pytest.importorskip("torch")
  asked = settings.Scorer("blip2_itc", str(tmp_path), 3, "float32", {})
  with pytest.raises(FilterError, match="no BLIP-2 with an image-text retrieval"):
    blip2.Blip2.load(asked)
