"""Groups of queries: by truth, by length, by folder; order of their names."""

import pytest

from tpr_jax import groups
from tpr_jax.data.record import Dataset, Record


def dataset(*records) -> Dataset:
  made = tuple(
    Record(image, i, (text,), "test", truth=truth)
    for i, (image, text, truth) in enumerate(records)
  )
  return Dataset("made", "test", made, lambda record, size: None)


def of(data, group_by):
  queries = [(i, 0) for i in range(len(data.records))]
  return groups.of_dataset(data, queries, group_by)


@pytest.mark.parametrize(
  "words, name",
  [
    (0, "0-10"),
    (1, "0-10"),
    (10, "0-10"),
    (11, "11-20"),
    (40, "21-40"),
    (80, "41-80"),
    (81, "81 or more"),
    (5000, "81 or more"),
  ],
)
def test_every_number_of_words_is_in_one_bucket(words, name):
  assert groups.length(" word" * words) == f"length={name} words"


def test_the_folder_is_the_first_in_which_the_images_differ():
  data = dataset(
    ("imgs/a/x/1.jpg", "", {}), ("imgs/b/x/2.jpg", "", {}), ("imgs/b/y/2.jpg", "", {})
  )
  assert of(data, "folder") == {"folder": ["folder=a", "folder=b", "folder=b"]}
  flat = dataset(("1.jpg", "", {}), ("2.jpg", "", {}))
  with pytest.raises(groups.GroupError, match="no record has it"):
    of(flat, "folder")


def test_several_keys_and_none():
  data = dataset(("1.jpg", "a b", {"camera": 3}), ("2.jpg", "a " * 50, {}))
  assert of(data, " camera , length ") == {
    "camera": ["camera=3", None],
    "length": ["length=0-10 words", "length=41-80 words"],
  }
  assert of(data, "") == {}


def test_a_key_that_names_every_query_is_refused(monkeypatch):
  monkeypatch.setattr(groups, "MOST", 2)
  data = dataset(*((f"{i}.jpg", "", {"name": i}) for i in range(3)))
  with pytest.raises(groups.GroupError, match=r"'name': 3 groups.*at most 2"):
    of(data, "name")


def test_an_unknown_key_is_told_what_there_is():
  data = dataset(("1.jpg", "", {"camera": 3, "regions": [], "source": "x"}))
  with pytest.raises(groups.GroupError, match="they have camera, source;"):
    of(data, "cam")


def test_groups_come_in_the_order_of_their_numbers():
  names = [
    "length=81 or more words",
    "camera=10",
    "camera=9",
    None,
    "camera=9",
    "others",
  ]
  assert groups.ordered(names) == [
    "camera=9",
    "camera=10",
    "length=81 or more words",
    "others",
  ]
