"""Attribute prompts: their files, the labels of records, and labels in batches."""

import dataclasses

import numpy as np
import pytest

from tests.data.noise import dataset
from tpr_jax.data import build, pipeline, prompts, span_masking, tokenizer, views
from tpr_jax.data.record import DatasetError, Record
from tpr_jax.data.rendered import attributes, binary
from tpr_jax.data.sources import mals

MASK = dict(rule="words", share=0.25, most=10)


@pytest.fixture(scope="module")
def words():
  return tokenizer.build("people_wordpiece")


def record(label):
  truth = {} if label is None else {"label": label}
  return Record("a.jpg", 0, ("a man",), "train", truth=truth)


# ---- the lists


def test_the_file_of_mals_has_two_sentences_for_each_attribute():
  made = prompts.build("mals")
  assert made.attributes == mals.ATTRIBUTES and len(made.sentences) == 54
  assert len(set(made.sentences)) == 54
  assert all(s == s.lower() and s.isascii() for s in made.sentences)
  yes, no = made.sentences[::2], made.sentences[1::2]
  # From the hat on label 0, the first sentence, is yes.
  for word, a in (("hat", 3), ("backpack", 4), ("handbag", 5), ("bag", 6)):
    assert word in yes[a] and f"no {word}" in no[a]
  upper = ("black", "white", "red", "purple", "yellow", "blue", "green", "gray")
  lower = ("black", "white", "purple", "yellow", "blue", "green", "pink", "gray")
  for a, colour in enumerate((*upper, *lower, "brown"), 10):
    assert yes[a].endswith(f" is {colour}") and no[a].endswith(f" is not {colour}")


def test_a_file_of_ones_own(tmp_path):
  path = tmp_path / "own.txt"
  path.write_text("# mine\n\nit is  red\nit is not red\n\nold\n  young\n")
  made = prompts.build(str(path))
  assert made.sentences == ("it is red", "it is not red", "old", "young")
  assert made.attributes == 2


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("a\nb\nc\n", "3 sentences; expected a sentence a line, two different ones"),
    ("# nothing\n", "0 sentences"),
    ("a\na\n", "'a' is both of a pair"),
    (b"\xff\xfe\x00", "cannot be read"),
    (None, "cannot be read .*expected one of mals, rendered, PATH"),
  ],
)
def test_files_that_are_no_list_of_pairs(tmp_path, text, message):
  path = tmp_path / "own.txt"
  if text is not None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ValueError, match=message):
    prompts.build(str(path))


# ---- labels of records


def test_labels_of_a_record():
  np.testing.assert_array_equal(prompts.of(record([0, 1, -1]), 3), [0, 1, -1])
  np.testing.assert_array_equal(prompts.of(record(None), 2), [-1, -1])
  assert prompts.of(record((1,)), 1).dtype == np.int32


@pytest.mark.parametrize(
  "label", [[0, 1], [0, 1, 2], [0, 1, None], [0, True, 1], "011", 5, [0.0, 1, 1]]
)
def test_labels_of_another_form(label):
  with pytest.raises(DatasetError, match=r"a\.jpg: truth\['label'\] holds .* of 3 val"):
    prompts.of(record(label), 3)


def test_a_set_without_labels_is_refused(words):
  data = dataset(6)
  asked = dict(pipe="resize(48,24)", length=40, batch=4, seed=0)
  with pytest.raises(DatasetError, match=r"none of the 6 records .* labels=True"):
    pipeline.train_iterator(data, words, views=views.Views(attributes="mals"), **asked)
  unknown = [dataclasses.replace(r, truth={"label": [-1] * 27}) for r in data.records]
  data = dataclasses.replace(data, records=tuple(unknown))
  with pytest.raises(DatasetError, match="knows any"):
    prompts.check(data, prompts.build("mals"))


# ---- tokens


def test_prompts_as_tokens_and_masked(words):
  made = prompts.build("rendered")
  found = prompts.encode(made, words, length=56, masking=MASK, seed=0)
  ids, counts = words.encode(made.sentences, 56)
  assert found.ids.shape == (54, counts.max()) and not ids[:, counts.max() :].any()
  np.testing.assert_array_equal(found.ids, ids[:, : counts.max()])
  assert words.unknown_id not in found.ids
  assert (
    found.masked.shape == found.labels.shape == (prompts.VARIANTS, *found.ids.shape)
  )
  hidden = found.labels != span_masking.NOT_CHOSEN
  whole = np.broadcast_to(found.ids, found.labels.shape)
  np.testing.assert_array_equal(found.labels[hidden], whole[hidden])
  np.testing.assert_array_equal(found.masked[~hidden], whole[~hidden])
  expected = np.maximum(1, np.round(0.25 * (counts - 2)))
  np.testing.assert_array_equal(hidden.sum(axis=2), np.tile(expected, (64, 1)))
  assert (found.masked[hidden] == words.mask_id).mean() == pytest.approx(0.8, abs=0.03)
  # Many ways of each, and others by another seed.
  assert min(len(np.unique(hidden[:, p], axis=0)) for p in range(54)) > 1
  other = prompts.encode(made, words, length=56, masking=MASK, seed=1)
  assert (other.labels != found.labels).any()
  plain = prompts.encode(made, words, length=56, masking={}, seed=0)
  assert plain.masked is None and plain.labels is None


def test_a_prompt_that_is_too_long(words):
  with pytest.raises(ValueError, match=r"has 14 tokens; a text may have 8"):
    prompts.encode(prompts.build("rendered"), words, length=8, masking={}, seed=0)


# ---- rendered people


def test_labels_of_rendered_people_are_what_the_view_shows():
  rng = np.random.default_rng(0)
  met = {(a, v) for a in range(len(binary.ATTRIBUTES)) for v in (0, 1)}
  field = {attribute.sentences[0]: a for a, attribute in enumerate(binary.ATTRIBUTES)}
  colour = field["the top is black"]
  for _ in range(400):
    person = attributes.sample_person(rng)
    view = attributes.sample_view(rng, "street")
    label = binary.label(person, view)
    seen = attributes.visible(person, view)
    met -= set(enumerate(label))
    assert label[field["the person is a woman"]] == int(person.gender != "woman")
    assert label[colour] == int(person.upper_colour != "black")
    glasses = label[field["the person has glasses"]]
    assert glasses == (int(person.glasses == "none") if "glasses" in seen else -1)
    assert label[field["the person has a scarf"]] == int(person.scarf_colour is None)
    skirt = label[field["the person wears a dress or a skirt"]]
    if person.upper == "dress":
      assert skirt == 0 and label[field["the trousers or the skirt are long"]] == -1
    elif "lower" in seen:
      assert skirt == int(person.lower != "skirt")
  assert not met  # both sentences of each attribute are true of somebody


def test_sentences_of_rendered_people():
  assert len(binary.SENTENCES) == 2 * len(binary.ATTRIBUTES)
  assert len(set(binary.SENTENCES)) == len(binary.SENTENCES)
  assert {attribute.field for attribute in binary.ATTRIBUTES} <= set(attributes.VALUES)


def test_labels_come_with_the_records_that_are_asked_for():
  options = dict(identities=3, views=1, granularity="coarse")
  plain = build.dataset("rendered", None, "train", options)
  told = build.dataset("rendered", None, "train", {**options, "labels": True})
  for one, other in zip(plain.records, told.records, strict=True):
    assert dict(other.truth) == {**one.truth, "label": other.truth["label"]}
    assert one.captions == other.captions and "label" not in one.truth


# ---- batches


def test_a_batch_has_the_labels_of_its_pictures(words):
  options = dict(identities=5, views=1, granularity="coarse", labels=True)
  data = build.dataset("rendered", None, "train", options)
  chosen = views.Views(attributes="rendered", mask=MASK)
  asked = dict(pipe="resize(48,24)|flip", length=40, batch=4, seed=0)
  batches = pipeline.train_iterator(data, words, views=chosen, **asked)
  without = pipeline.train_iterator(data, words, **asked)
  assert chosen.shapes(40, 40)["attributes"] == ((27,), np.int32)
  for _ in range(3):
    batch, plain = next(batches), next(without)
    assert batch["attributes"].shape == (4, 27)
    assert batch["attributes"].dtype == np.int32
    truth = [data.records[i].truth["label"] for i in batch["image_id"]]
    np.testing.assert_array_equal(batch["attributes"], truth)
    for key, value in plain.items():  # nothing else changes
      np.testing.assert_array_equal(batch[key], value)
  batches.close()
  without.close()
