"""Where tokens lie in a caption as it was written, by every route."""

import html
import re

import ftfy
import numpy as np
import pytest

from tests.data import test_tokenizer
from tests.data.test_tokenizer import HAVE_INSTANT, SPECIAL, pool
from tpr_jax.data import spans
from tpr_jax.data import tokenizer as tokenizers

merges_path = test_tokenizer.merges_path
clip = test_tokenizer.clip
people = test_tokenizer.people

ODD = ["", " ", "\x00\x07", "a\x1cb c", "𝔘🚶‍♀️ x", "\ufffd", "a\ufffd\ufffdb", "İi"]
# The instant package is CLIP's vocabulary: `clip` says what its spans must be.
ROUTES = ("people", "json", "clip", "instant")


@pytest.fixture(scope="module")
def routes(people, merges_path, clip, tmp_path_factory):
  files = pytest.importorskip("tpr_jax.export.tokenizer_files")
  folder = tmp_path_factory.mktemp("json")
  files.write(people, folder, 152)
  found = dict(people=people, clip=clip, json=tokenizers.build(f"json:{folder}"))
  if HAVE_INSTANT:
    found["instant"] = tokenizers.build("instant")
  return found


@pytest.fixture(params=ROUTES)
def tok(request, routes):
  if request.param not in routes:
    pytest.skip("instant-clip-tokenizer has no wheel here")
  return routes[request.param]


def pieces(tok, text):
  return [text[start:end] for start, end in tok.spans(text).tolist()]


EXAMPLES = {
  "A  man's\tred COAT, size 42": (
    ["A", "man", "'", "s", "red", "COAT", ",", "s", "i", "ze", "4", "2"],
    ["A", "man", "'s", "red", "COAT", ",", "size", "4", "2"],
  ),
  "\u00a0 Caf\u00e9&amp;eacute;x\n": (
    ["Ca", "f", "\u00e9", "\u00e9", "&amp;eacute;", "&amp;eacute;", "x"],
    ["Caf", "\u00e9", "&amp;eacute;", "x"],
  ),
  "blue\u2014grey \u201cNike\u201d": (None, ["blue", "\u2014", "grey", "\u201c", "Nike",
                                             "\u201d"]),
  "x<|endoftext|>y": (None, ["x", "<", "|", "endof", "text", "|", ">", "y"]),
}  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES)
def test_spans_by_hand(routes, text):
  ours, clips = EXAMPLES[text]
  for name, tok in routes.items():
    found, expected = pieces(tok, text), ours if name in ("people", "json") else clips
    if expected is None:  # merges of ours, by what they spell
      once = dict.fromkeys(map(tuple, tok.spans(text).tolist()))
      found = "".join(text[start:end] for start, end in once)
      expected = text.replace(" ", "")
    assert found == expected, name


@pytest.mark.parametrize("kind", test_tokenizer.KINDS)
def test_there_is_a_span_for_every_token(tok, kind):
  for text in [*pool(kind, 60), *SPECIAL, *ODD]:
    found, (count,) = tok.spans(text), tok.encode([text], 9)[1]
    assert found.shape == (count - 2, 2) and found.dtype == np.int32
    assert (found[:, 0] <= found[:, 1]).all() and (found >= 0).all()
    assert (found <= len(text)).all()
    assert (np.diff(found[:, 0]) >= 0).all() and (np.diff(found[:, 1]) >= 0).all()
    assert not any(re.search(r"^\s|\s$", piece) for piece in pieces(tok, text))


@pytest.mark.parametrize("kind", ["plain", "spaces", "html"])
def test_spans_hold_what_the_token_spells(tok, kind):
  """The characters in the caption, cleaned, are the token's in the cleaned caption."""
  for text in [*pool(kind, 80), *SPECIAL]:
    cleaned = tokenizers.clean(text)
    tokens = [cleaned[a:b].strip() for a, b in tok.offsets(cleaned)]
    found = pieces(tok, text)
    assert all(found)
    # ’ is a letter to ftfy only between others: alone it would be cleaned otherwise.
    curly = str.maketrans("’“”", '\'""')
    cleaned_pieces = [tokenizers.clean(p.translate(curly)) for p in found]
    assert cleaned_pieces == tokens


def test_wrongly_decoded_letters_are_found_by_their_bytes(tok):
  exact, total = 0, 0
  for right in pool("plain", 60):
    text = right.encode().decode("latin-1")
    if ftfy.fix_text(text) != ftfy.fix_text(right):
      continue  # not known to be wrong: kept as it is
    ends = np.cumsum([0, *(len(letter.encode()) for letter in right)])
    assert len(ends) == len(right) + 1 and ends[-1] == len(text)
    found, expected = tok.spans(text), ends[tok.spans(right)]
    assert len(found) == len(expected)
    exact += (found == expected).all(axis=1).sum()
    total += len(found)
  assert total > 500 and exact == total


@test_tokenizer.needs_instant
@pytest.mark.parametrize("kind", test_tokenizer.KINDS)
def test_instants_tokens_are_laid_where_clips_are(routes, kind):
  for text in [*pool(kind, 60, seed=3), *SPECIAL, *ODD]:
    a, b = routes["instant"].spans(text), routes["clip"].spans(text)
    np.testing.assert_array_equal(a, b, err_msg=repr(text))


def test_tokens_that_spell_something_else_have_no_spans():
  letters = {0: "re", 1: "d ", 2: "coat "}
  decode = lambda ids: "".join(letters[i] for i in ids)
  assert spans.spelt("red coat", [0, 1, 2], decode) == [(0, 2), (2, 3), (4, 8)]
  assert spans.spelt("red  hat", [0, 1, 2], decode) is None
  assert spans.spelt("red coat x", [0, 1, 2], decode) is None
  assert spans.spelt("red", [0, 1, 2], decode) is None


def test_tokens_of_parts_of_letters_have_the_letters():
  bits = {0: b"a", 1: "é".encode()[:1], 2: "é".encode()[1:], 3: b"b ",
          4: "🚶".encode()[:3], 5: "🚶".encode()[3:] + b" "}  # fmt: skip
  decode = lambda ids: b"".join(bits[i] for i in ids).decode(errors="replace")
  found = spans.spelt("aéb é🚶", [0, 1, 2, 3, 1, 2, 4, 5], decode)
  assert found == [(0, 1), (1, 2), (1, 2), (2, 3), (4, 5), (4, 5), (5, 6), (5, 6)]


def test_a_tokenizer_that_cannot_tell_says_so(people, monkeypatch):
  monkeypatch.setattr(type(people), "offsets", tokenizers.Tokenizer.offsets)
  with pytest.raises(tokenizers.TokenizerError, match="'people' does not tell which"):
    people.spans("a man")
  with pytest.raises(tokenizers.TokenizerError, match="NoneType"):
    people.spans(None)


@test_tokenizer.needs_instant
def test_instant_that_spells_something_else_names_the_other_routes(routes, monkeypatch):
  tok = routes["instant"]
  monkeypatch.setattr(tok, "words", lambda texts: [[320]] * len(texts))
  with pytest.raises(tokenizers.TokenizerError, match=r"do not spell 'a man'.*merges:"):
    tok.spans("a man")


def test_entities_are_unescaped_as_by_the_standard_library():
  texts = [*pool("html", 50), "&lt2x &#x41;b &#65 &notit; &;& &nosuch; &#7;a &amp"]
  for text in texts:
    now, origin = spans._unescaped(text)
    assert now == html.unescape(text) and origin.shape == (len(now), 2)
  now, origin = spans._unescaped("a&lt2x")
  assert now == "a<2x" and origin.tolist() == [[0, 1], [1, 4], [4, 5], [5, 6]]
