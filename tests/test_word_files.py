"""Files of word scores: there and back, and damaged in many ways."""

import dataclasses
import math

import numpy as np
import pytest

from tpr_jax import word_files
from tpr_jax.data.record import Record
from tpr_jax.data.word_truth import Word
from tpr_jax.metrics.roc import Area
from tpr_jax.word_files import Caption, WordFileError, WordScores

NAN = float("nan")


def shown(words=("a", "red", "coat,"), seed=0, **changes):
  rng = np.random.default_rng(seed)
  made = Caption(
    record=4,
    number=1,
    image="val/000004/0",
    words=tuple(words),
    wrong=rng.random(len(words)) < 0.5,
    scores=rng.random((2, len(words))).astype(np.float32),
  )
  return dataclasses.replace(made, **changes)


def scores(step=60, captions=None, **changes):
  given = [shown(), shown(("naïve", "中文"), 1, record=7)]
  made = WordScores(
    step=step,
    data="rendered/val",
    areas={
      "gass": Area(0.75, 0.5, 0.875, 0.8, 12, 100, 900),
      "cosine": Area(NAN, NAN, NAN, NAN, 0, 0, 1000, "no wrong token: undefined"),
    },
    captions=tuple(given if captions is None else captions),
    level=0.9,
  )
  return dataclasses.replace(made, **changes)


def same(a, b):
  for one, other in zip(a, b, strict=True):
    plain = lambda c: (c.record, c.number, c.image, c.words)
    assert plain(one) == plain(other)
    np.testing.assert_array_equal(one.wrong, other.wrong, strict=True)
    np.testing.assert_array_equal(one.scores, other.scores, strict=True)


@pytest.mark.parametrize("captions", [None, (), [shown(())], [shown(()), shown()]])
def test_there_and_back(tmp_path, captions):
  given = scores(captions=captions)
  path = word_files.write(tmp_path, given)
  assert path == tmp_path / "words" / "60.npz" == word_files.path(tmp_path, 60)
  found = word_files.read(path)
  assert (found.step, found.data, found.level) == (60, "rendered/val", 0.9)
  assert found.kinds == given.kinds == ("gass", "cosine")
  assert repr(found.areas) == repr(given.areas)  # NaN is not equal to itself
  assert isinstance(found.areas["gass"].wrong, int)
  same(found.captions, given.captions)
  assert [each.name for each in path.parent.iterdir()] == ["60.npz"]


def test_no_kinds_at_all(tmp_path):
  given = scores(areas={}, captions=[shown(scores=np.zeros((0, 3), np.float32))])
  found = word_files.read(word_files.write(tmp_path, given))
  assert found.kinds == () and found.captions[0].words == ("a", "red", "coat,")


def test_a_file_takes_the_place_of_an_older_one(tmp_path):
  word_files.write(tmp_path, scores())
  found = word_files.read(word_files.write(tmp_path, scores(captions=())))
  assert found.captions == () and word_files.steps(tmp_path) == [60]


def test_steps_are_numbers_in_order(tmp_path):
  assert word_files.steps(tmp_path) == []
  for step in (1000, 60, 200):
    word_files.write(tmp_path, scores(step))
  (tmp_path / "words" / "notes.npz").write_text("")
  (tmp_path / "words" / "70.tmp").write_text("")
  assert word_files.steps(tmp_path) == [60, 200, 1000]


def test_a_caption_out_of_its_tokens():
  record = Record("val/000004/0", 4, ("a coat",), "val")
  words = (Word("a", (1,), False), Word("coat", (2, 3), True))
  tokens = dict(gass=[9, 1, 2, 4, 9], cosine=[9, 0, 0, 1, 9])
  found = word_files.caption(4, record, 0, words, tokens)
  assert found.words == ("a", "coat") and found.wrong.tolist() == [False, True]
  assert found.scores.tolist() == [[1, 3], [0, 0.5]]
  assert found.scores.dtype == np.float32 and found.image == record.image
  assert word_files.caption(4, record, 0, (), tokens).scores.shape == (2, 0)
  assert word_files.caption(4, record, 0, words, {}).scores.shape == (0, 2)


def test_numbers_for_the_log():
  found = word_files.numbers(scores())
  assert found["auc_gass"] == 0.75 and math.isnan(found["auc_cosine"])
  assert (found["low_gass"], found["high_gass"]) == (0.5, 0.875)
  assert found["by_caption_gass"] == 0.8
  one = scores(areas=dict(gass=Area(0.75, 0.5, 0.875, 0.8, 12, 100, 900)))
  assert word_files.numbers(one)["wrong_tokens"] == 100
  assert word_files.numbers(one)["right_tokens"] == 900
  assert word_files.numbers(scores(areas={})) == {}


@pytest.mark.parametrize(
  "change",
  [
    dict(scores=np.zeros((1, 3), np.float32)),
    dict(scores=np.zeros((2, 4), np.float32)),
    dict(wrong=np.zeros(2, bool)),
  ],
)
def test_scores_that_do_not_fit_are_not_written(tmp_path, change):
  with pytest.raises(ValueError, match=r"caption 1 of val/000004/0 has 3 words"):
    word_files.write(tmp_path, scores(captions=[shown(**change)]))
  assert not (tmp_path / "words").exists()


def changed(path, **arrays):
  with np.load(path) as archive:
    every = dict(archive)
  every |= arrays
  np.savez(path, **{k: v for k, v in every.items() if v is not None})


DAMAGE = {
  "no array 'auc'": dict(auc=None),
  "no array 'word_wrong'": dict(word_wrong=None),
  r"'scores' has shape \(2, 4\)": dict(scores=np.zeros((2, 4), np.float32)),
  "'scores' holds a number that is not": dict(scores=np.full((2, 5), NAN, np.float32)),
  "'words' has .* type int64": dict(words=np.arange(5)),
  "'word_wrong' has .* type float64": dict(word_wrong=np.zeros(5)),
  r"'low' has shape \(3,\)": dict(low=np.zeros(3)),
  "'first_word' does not divide 5": dict(first_word=np.array([0, 6, 5])),
  r"'first_word' does not divide": dict(first_word=np.array([0, 3, 4])),
  r"'first_word' has shape \(2,\)": dict(first_word=np.array([0, 5])),
  r"'step' has shape \(1,\)": dict(step=np.array([3])),
  "'kinds' names one twice": dict(kinds=np.array(["gass", "gass"])),
  "allow_pickle": dict(image=np.array([{}, {}], object)),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_arrays_that_do_not_fit_are_named(tmp_path, said):
  path = word_files.write(tmp_path, scores())
  changed(path, **DAMAGE[said])
  with pytest.raises(WordFileError, match=rf"words/60\.npz cannot be used \(.*{said}"):
    word_files.read(path)


def test_files_cut_or_flipped_anywhere_are_errors_or_the_same(tmp_path):
  path = word_files.write(tmp_path, scores())
  whole = path.read_bytes()
  for part in range(16):
    path.write_bytes(whole[: part * len(whole) // 16])
    with pytest.raises(WordFileError, match=r"60\.npz cannot be used"):
      word_files.read(path)
  for at in range(0, len(whole), 41):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    try:  # zip has bytes of no consequence, such as times
      found = word_files.read(path)
    except WordFileError:
      continue
    same(found.captions, scores().captions)
  path.unlink()
  with pytest.raises(WordFileError, match=r"60\.npz cannot be used"):
    word_files.read(path)
