"""WordPiece: BERT's ids, our own small vocabulary, and typed special tokens as text."""

import json
import pickle

import numpy as np
import pytest

from tests.data.test_tokenizer import pool
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data import train_bpe, train_wordpiece, wordpiece

WORDS = """the man woman wear ##ing ##s a in red ##dish black and white t shirt jack
##et un ##able ##ly 20 3 cafe na ##ive nike it bag trousers , . ; - # ( ) ' / & ! % [ ]
cls sep mask unk pad <"""
WORDS = WORDS.split()


@pytest.fixture(scope="module")
def people():
  return tokenizers.build("people_wordpiece")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with a vocab.txt in BERT's order of things: specials not at the start."""
  place = tmp_path_factory.mktemp("bert")
  unused = [f"[unused{i}]" for i in range(3)]
  specials = [wordpiece.PAD, *unused, *wordpiece.SPECIAL[1:]]
  train_wordpiece.write([*specials, *WORDS, "中", "文"], place / "vocab.txt")
  (place / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
  return place


@pytest.fixture(scope="module")
def bert(folder):
  return tokenizers.build(f"bert:{folder}")


@pytest.fixture(scope="module")
def theirs(folder):
  from transformers import BertTokenizerFast

  return BertTokenizerFast.from_pretrained(str(folder))


def test_ids_are_those_of_transformers(bert, theirs):
  texts = ["A man's T-shirt, un-ably reddish; wears 20 jackets.", "", "naïve café 中文"]
  texts += [
    tokenizers.clean(t) for kind in ("plain", "unicode") for t in pool(kind, 150)
  ]
  ids, counts = bert.encode(texts, 32)
  how = dict(padding="max_length", truncation=True, max_length=32)
  expected = np.array(theirs(texts, **how)["input_ids"])
  np.testing.assert_array_equal(ids, expected)
  assert ids.dtype == counts.dtype == np.int32
  assert counts[:3].tolist() == [len(theirs(text)["input_ids"]) for text in texts[:3]]
  known = (ids != bert.unknown_id) & (ids != 0)
  assert known.mean() > 0.2 and (ids == bert.unknown_id).any()


def test_special_ids_are_where_the_vocabulary_has_them(bert, people):
  assert (bert.start_id, bert.end_id, bert.mask_id, bert.unknown_id) == (5, 6, 7, 4)
  assert bert.pad_id == 0 and bert.vocab_size == 8 + len(WORDS) + 2
  assert not bert.end_is_last and not people.end_is_last
  assert (people.pad_id, people.unknown_id) == (0, 1)
  assert (people.start_id, people.end_id, people.mask_id) == (2, 3, 4)
  assert people.vocab_size == 1500 and people.name == "people_wordpiece"
  assert tokenizers.build("people").end_is_last
  assert tokenizers.build("people").continues is None


@pytest.mark.parametrize("route", ["bert", "people"])
def test_a_typed_special_token_is_text(route, request):
  tok = request.getfixturevalue(route)
  texts = ["a man [SEP] in red", "[MASK]", "[pad][CLS] [UNK]", "[sep", "x[SEP]y"]
  ids, counts = tok.encode(texts, 40)
  special = {0, tok.start_id, tok.end_id, tok.mask_id}
  for row, count in zip(ids, counts, strict=True):
    assert row[0] == tok.start_id and row[count - 1] == tok.end_id
    assert not special & set(row[1 : count - 1].tolist())
    assert not row[count:].any()
  if route == "bert":
    first = tok.unknown_id + 4  # of WORDS: three more special tokens are before
    spelt = [first + WORDS.index(piece) for piece in ("[", "sep", "]")]
    assert ids[0, 3:6].tolist() == spelt


def test_which_tokens_continue_a_word(bert):
  ids, _ = bert.encode(["reddish man unably wearing"], 16)
  found = bert.continues[ids[0]]
  # [CLS] red ##dish man un ##able ... : "unably" has no pieces, "wearing" has two.
  assert bert.continues.shape == (bert.vocab_size,) and bert.continues.dtype == bool
  assert found.tolist()[:8] == [False, False, True, False, False, False, True, False]
  assert bert.continues.sum() == sum(word.startswith("##") for word in WORDS)


def test_spans_are_the_characters_of_each_token(people, bert):
  caption = "A  MAN&amp;#39;s café-bag, reddish"
  rows = bert.spans(caption)
  assert len(rows) == bert.encode([caption], 40)[1][0] - 2
  words = [caption[a:b] for a, b in rows]
  assert words == ["A", "MAN", "&amp;#39;", "s", "café", "-", "bag", ",", "red", "dish"]
  text = "a woman in a turquoise raincoat"
  pieces = [text[a:b] for a, b in people.spans(text)]
  assert "".join(pieces) == text.replace(" ", "")


def test_lengths_and_cut_captions(people):
  texts = ["red " * n for n in (0, 1, 6, 7, 30)]
  ids, counts = people.encode(texts, 8)
  assert counts.tolist() == [2, 3, 8, 9, 32]
  for row, count in zip(ids, counts, strict=True):
    assert row[min(count, 8) - 1] == people.end_id
    assert (row != 0).sum() == min(count, 8)


def test_our_vocabulary_knows_the_words_of_rendered_people(people):
  texts = train_bpe.grammar_texts(3, seed=7)
  ids, counts = people.encode(texts, 400)
  assert counts.max() < 400 and not (ids == people.unknown_id).any()
  words = sum(len(people._encoder.pre_tokenizer.pre_tokenize_str(t)) for t in texts)
  pieces = int(counts.sum()) - 2 * len(texts)
  assert pieces / words < 1.1
  assert wordpiece.PEOPLE.stat().st_size < 20_000


def test_training_is_deterministic(tmp_path):
  texts = pool("plain", 200)
  seeds = dict(words=["backpack", "umbrella"], weight=500)
  first = train_wordpiece.train(texts, 180, **seeds)
  assert first == train_wordpiece.train(texts, 180, **seeds)
  assert first != train_wordpiece.train(pool("plain", 80, seed=1), 180)
  assert len(first) == 180 and first[:5] == list(wordpiece.SPECIAL)
  train_wordpiece.write(first, tmp_path / "vocab.txt")
  made = tokenizers.build(f"bert:{tmp_path / 'vocab.txt'}")
  assert made.encode(["backpack umbrella"], 8)[1][0] == 4  # one token each
  with pytest.raises(tokenizers.TokenizerError, match="more texts"):
    train_wordpiece.train(["red blue"], 1000)
  with pytest.raises(tokenizers.TokenizerError, match="leaves no room"):
    train_wordpiece.train(texts, 60)


@pytest.mark.parametrize("route", ["bert", "people"])
def test_tokenizers_travel_to_worker_processes(route, request):
  tok = request.getfixturevalue(route)
  copy = pickle.loads(pickle.dumps(tok))
  text = ["a man in a reddish coat"]
  np.testing.assert_array_equal(copy.encode(text, 20)[0], tok.encode(text, 20)[0])
  assert type(copy) is type(tok) and (copy.continues == tok.continues).all()


def test_a_tokenizer_json_alone_is_read(bert, theirs, tmp_path):
  theirs.save_pretrained(tmp_path)
  (tmp_path / "vocab.txt").unlink(missing_ok=True)
  found = tokenizers.build(f"bert:{tmp_path}")
  texts = pool("plain", 50)
  np.testing.assert_array_equal(found.encode(texts, 40)[0], bert.encode(texts, 40)[0])


def test_errors_say_what_to_do(folder, tmp_path, monkeypatch):
  error = tokenizers.TokenizerError
  with pytest.raises(error, match=r"no tokenizer files in .*found nothing"):
    tokenizers.build(f"bert:{tmp_path}")
  (tmp_path / "vocab.txt").write_text("[UNK]\n[PAD]\na\na\n")
  with pytest.raises(error, match=r"1 are there twice, missing are \[CLS\], \[SEP\]"):
    tokenizers.build(f"bert:{tmp_path}")
  (tmp_path / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
  (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
  with pytest.raises(error, match=r"cased BERT.*bert-base-uncased"):
    tokenizers.build(f"bert:{tmp_path}")
  (tmp_path / "vocab.txt").unlink()
  (tmp_path / "tokenizer_config.json").unlink()
  (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
  with pytest.raises(error, match=r"of the kind 'BPE'; expected WordPiece"):
    tokenizers.build(f"bert:{tmp_path}")
  with pytest.raises(error, match=r"no folder or file /no/such, and it is no hub id"):
    tokenizers.build("bert:/no/such")
  with pytest.raises(error, match=r"unknown tokenizer 'bert:'.*people_wordpiece"):
    tokenizers.build("bert:")
  with pytest.raises(error, match=r"no vocabulary at .*train_wordpiece"):
    wordpiece.people(path=tmp_path / "none.txt")
  import huggingface_hub.constants as constants

  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(error, match=r"Without a network.*bert:FOLDER"):
    tokenizers.build("bert:nobody/nothing")
