"""Where words fit: parts and words whose loss is felt."""

import numpy as np
import pytest
from PIL import Image

from tests.search import place as searching
from tests.serve import place
from tpr_jax.serve import explaining, limits
from tpr_jax.serve.problems import Refused


class Encoder:
  """A picture's row is its mean colour, as it is; a text's the colours it names."""

  def prepare(self, pixels):
    return np.asarray(Image.fromarray(pixels).resize((8, 24), Image.Resampling.BOX))

  def encode_images(self, prepared):
    return np.stack([each.reshape(-1, 3).mean(0) for each in prepared]) / 255

  def encode_texts(self, texts):
    known = searching.COLOURS
    rows = [
      np.sum([known[w] for w in text.split() if w in known] or [(0, 0, 0)], axis=0)
      for text in texts
    ]
    return np.float32(rows) / 255


def test_the_red_part_is_where_red_fits():
  pixels = np.zeros((48, 16, 3), np.uint8)
  pixels[:24], pixels[24:] = searching.COLOURS["red"], searching.COLOURS["blue"]
  found = explaining.explain(Encoder(), "a red coat", pixels)
  parts = found.patch.reshape(found.grid)
  assert found.grid == (12, 4)
  assert (parts[:5] > 0).all() and (parts[7:] < 0).all()
  assert found.words == ("a", "red", "coat")
  assert found.word.argmax() == 1 and abs(found.word[[0, 2]]).max() < 1e-6
  # The formula, again.
  whole = Encoder().encode_images([Encoder().prepare(pixels)])[0]
  text = Encoder().encode_texts(["a red coat"])[0]
  assert abs(found.cosine - whole @ text) < 1e-6
  one = explaining.explain(Encoder(), "red", pixels)
  np.testing.assert_allclose(one.word, [one.cosine])


def test_too_many_words():
  words = " ".join(["red"] * (limits.EXPLAINED_WORDS + 1))
  with pytest.raises(Refused):
    explaining.explain(Encoder(), words, np.zeros((8, 8, 3), np.uint8))


def test_it_is_served(client):
  hit = client.search("a red coat")["hits"][0]
  asked = dict(query="a red coat", key=hit["key"])
  found = client.post("/api/explain", asked).json()
  assert len(found["patch"]) == found["rows"] * found["columns"]
  assert [each["word"] for each in found["words"]] == ["a", "red", "coat"]
  assert abs(found["cosine"] - hit["score"]) < 1e-5
  for wrong, status in (
    (dict(query="red"), 422),
    (dict(asked, query=" "), 422),
    (dict(asked, key="0" * 32), 404),
    (dict(asked, top=3), 422),
    (dict(asked, query="red " * 40), 422),
  ):
    assert client.post("/api/explain", wrong).status == status
  assert place.paths(client.search("a red coat"))[0] == hit["path"]
