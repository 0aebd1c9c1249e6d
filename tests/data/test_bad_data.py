"""Training on a dataset with every kind of bad data: replaced alike everywhere."""

import dataclasses
import json

import numpy as np
import pytest

from tests.data import bad_folder, noise
from tests.data.bad_folder import EACH, HARM, LOST, name
from tpr_jax.data import captions, check_text, images, pipeline, tokenizer
from tpr_jax.data.damage import BadData, Damage
from tpr_jax.data.record import Dataset, DatasetError, Record

SAMPLERS = [dict(), dict(sampler="identity", instances=2), dict(buckets=(16,))]
NAMES = [given.get("sampler", next(iter(given), "random")) for given in SAMPLERS]
STEPS = 14


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
  root = tmp_path_factory.mktemp("bad")
  bad_folder.write(root / "set")
  return bad_folder.load(root / "set")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, bad):
  """The same examples with every picture in order."""
  root = tmp_path_factory.mktemp("whole")
  bad_folder.write(root / "set", harm=False)
  data = bad_folder.load(root / "set")
  return dataclasses.replace(bad, load_image=data.load_image)


def iterate(people, data, **kwargs):
  given = dict(pipe="resize(24,12)|flip(0.5)|erase(0.5)", length=24, batch=8, seed=5)
  return pipeline.train_iterator(data, people, **{**given, **kwargs})


def take(iterator, count=STEPS):
  return [next(iterator) for _ in range(count)]


def assert_same(a, b):
  for one, other in zip(a, b, strict=True):
    assert set(one) == set(other)
    for key in one:
      assert np.array_equal(one[key], other[key]), key


def plain(damage):
  return json.loads(json.dumps(damage.to_json()))


# ---- captions


def test_captions_without_words_are_no_examples(people, bad):
  iterator = iterate(people, bad)
  assert iterator.examples == 2 * 48 - 4
  assert iterator.captions.endswith(
    "; 3 more are empty or no text and are left out (3 pictures)"
  )
  assert iterator.damage.found == {
    "caption": {
      name(41): f"{name(41)}: caption 0 is empty (' \\t')",
      name(43): f"{name(43)}: key 'captions', caption 1: found the number 7, expected"
      " a sentence",
      name(46): f"{name(46)}: key 'captions': found a list that is empty, expected a"
      " list of sentences",
    }
  }
  empty = people.encode([" \t"], 24)[0][0].tolist()
  met = {41: set(), 43: set(), 46: set()}
  for batch in take(iterator, 40):
    for text, at in zip(batch["text"].tolist(), batch["image_id"], strict=True):
      assert text != empty
      met.get(int(at), set()).add(tuple(text))
  said = {n: bad_folder.texts(n) for n in met}
  rows = lambda texts: {tuple(t) for t in people.encode(texts, 24)[0].tolist()}
  assert met == {41: rows(said[41][1:]), 43: rows(said[43][:1]), 46: set()}


@pytest.mark.parametrize("empty", ["", " ", "\n\u3000\t", "&nbsp;", "\ufeff", "\x00"])
def test_what_the_cleaning_empties_is_empty(people, empty):
  data = Dataset("d", "train", (Record("a.png", 0, ("A man.", empty), "train"),), None)
  damage = Damage("d/train", 1)
  found = captions.usable(data, people, 8, damage)
  counts = people.encode([empty], 8)[1]
  assert found.number.tolist() == [0] + [1] * int(counts[0] > 2)
  assert len(damage) == int(counts[0] == 2)
  if empty.strip("\ufeff\x00"):
    assert counts[0] == 2  # a byte order mark and NUL may be characters to a tokenizer


def test_captions_that_are_no_text_do_not_stop_a_dataset_made_in_python(people):
  records = (
    Record("a.png", 0, ("A man.", None), "train"),
    Record("b.png", 1, (3.5,), "train"),
    Record("c.png", 2, (), "train"),
  )
  damage = Damage("d/train", 3)
  found = captions.usable(Dataset("d", "train", records, None), people, 8, damage)
  assert found.record.tolist() == [0] and found.left_out == 2
  assert damage.found["caption"] == {
    "a.png": "a.png: caption 1 is no text but NoneType None",
    "b.png": "b.png: caption 0 is no text but float 3.5",
    "c.png": "c.png: no caption",
  }


def test_a_dataset_of_empty_captions_says_so(people):
  data = noise.dataset(6)
  records = tuple(dataclasses.replace(r, captions=(" ",)) for r in data.records)
  data = dataclasses.replace(data, records=records)
  with pytest.raises(DatasetError, match=r"no captions to train on") as caught:
    iterate(people, data)
  assert "6 pictures with bad captions: 0.png: caption 0 is empty" in str(caught.value)


def test_check_lists_records_without_captions(bad):
  found = {f.kind: f for f in check_text.check(bad, 5)}
  assert found["missing-captions"].severity == "error"
  assert found["missing-captions"].count == 2  # 43 and 46
  assert found["empty-captions"].count == 1  # 41


# ---- replacement


@pytest.mark.parametrize("given", SAMPLERS, ids=NAMES)
def test_rows_that_are_not_replaced_are_those_of_the_clean_dataset(
  people, bad, whole, given
):
  iterator = iterate(people, bad, **given)
  found, clean = take(iterator, 40), take(iterate(people, whole, **given), 40)
  replaced = 0
  for batch, other in zip(found, clean, strict=True):
    hit = np.isin(other["image_id"], LOST)
    assert np.array_equal(batch["replaced"], np.where(hit, other["image_id"], -1))
    assert not np.isin(batch["image_id"], LOST).any()
    for key in ("image", "text", "ids", "image_id"):
      assert np.array_equal(batch[key][~hit], other[key][~hit])
    replaced += int(hit.sum())
  damage = iterator.damage
  assert damage.replaced == replaced > 20
  kinds = {kind: sorted(names) for kind, names in damage.found.items()}
  expected = {k: sorted(name(n) for n in HARM if HARM[n] == k) for k in HARM.values()}
  assert kinds == expected
  assert len(damage) == len(HARM) and damage.share() == len(HARM) / 48
  for kind, names in damage.found.items():
    for each, reason in names.items():
      assert reason.startswith(f"{each}: "), kind


@pytest.mark.parametrize("given", SAMPLERS, ids=NAMES)
def test_threads_and_processes_change_nothing(people, bad, given):
  golden = iterate(people, bad, threads=0, **given)
  expected = take(golden)
  threaded = iterate(people, bad, threads=2, cache_mb=1, **given)
  assert_same(take(threaded), expected)
  assert plain(threaded.damage) == plain(golden.damage)
  parts = [
    iterate(people, bad, process_index=p, process_count=2, **given) for p in range(2)
  ]
  rows = [take(part) for part in parts]
  joined = [
    {key: np.concatenate([row[s][key] for row in rows]) for key in expected[s]}
    for s in range(STEPS)
  ]
  assert_same(joined, expected)
  assert plain(parts[1].damage.merge(parts[0].damage)) == plain(golden.damage)
  assert parts[0].get_state() == parts[1].get_state()


def test_worker_processes_report_what_they_find(people, bad):
  golden, workers = iterate(people, bad), iterate(people, bad, workers=2, threads=1)
  assert_same(take(workers, 6), take(golden, 6))
  assert plain(workers.damage) == plain(golden.damage) and len(golden.damage) > 3
  workers.close()


@pytest.mark.parametrize("given", SAMPLERS, ids=NAMES)
@pytest.mark.parametrize("processes", [1, 2])
def test_resume_carries_the_damage_on(people, bad, given, processes):
  golden = iterate(people, bad, **given)
  expected = take(golden)

  def start():
    return [
      iterate(people, bad, process_index=p, process_count=processes, **given)
      for p in range(processes)
    ]

  merged = lambda parts: parts[0].damage.merge(parts[-1].damage)
  together = merged if processes > 1 else lambda parts: parts[0].damage
  parts = start()
  for part in parts:
    take(part, 5)
  state, saved = parts[0].get_state(), plain(together(parts))
  for part in parts:
    take(part, 3)  # lost: it was killed after the checkpoint
  resumed = start()
  for part in resumed:
    part.set_state(state)
    part.restore_damage(saved)
  assert plain(together(resumed)) == saved
  rows = [take(part, STEPS - 5) for part in resumed]
  joined = [
    {key: np.concatenate([row[s][key] for row in rows]) for key in rows[0][s]}
    for s in range(STEPS - 5)
  ]
  assert_same(joined, expected[5:])
  assert plain(together(resumed)) == plain(golden.damage)


def test_damage_of_another_split_is_not_taken_up(people, bad):
  iterator = iterate(people, bad)
  before = plain(iterator.damage)
  with pytest.raises(ValueError, match="expected one split"):
    iterator.restore_damage(Damage("other/train", 48).to_json())
  assert plain(iterator.damage) == before
  take(iterator, 3)
  iterator.restore_damage(None)  # a checkpoint from before there was any
  assert plain(iterator.damage) == before


def test_pictures_that_were_mended_are_no_longer_listed(people, whole, tmp_path):
  root = tmp_path / "set"
  bad_folder.write(root)
  first = iterate(people, bad_folder.load(root))
  take(first, 40)
  saved = plain(first.damage)
  for number in (2, 9, 30):
    picture = root / name(number)
    picture.write_bytes(whole.load_image.read_bytes(whole.records[number]))
  resumed = iterate(people, bad_folder.load(root))
  resumed.set_state(first.get_state())
  resumed.restore_damage(saved)
  assert len(first.damage) - len(resumed.damage) == 3
  assert {name(2), name(9), name(30)}.isdisjoint(resumed.damage.unreadable())
  assert resumed.damage.replaced == first.damage.replaced
  kept = {
    k: {n: r for n, r in v.items() if n in resumed.damage}
    for k, v in saved["found"].items()
  }
  assert resumed.damage.to_json()["found"] == {k: v for k, v in kept.items() if v}


# ---- the identity sampler


def test_batches_of_people_stay_batches_of_people(people, bad, whole):
  given = dict(sampler="identity", instances=2, batch=8)
  own, other = 0, 0
  batches = zip(
    take(iterate(people, bad, **given), 60),
    take(iterate(people, whole, **given), 60),
    strict=True,
  )
  for batch, clean in batches:
    labels = batch["ids"].reshape(4, 2)
    assert (labels[:, 0] == labels[:, 1]).all() and len(set(labels[:, 0])) == 4
    for row in np.flatnonzero(batch["replaced"] >= 0):
      person, stand_in = clean["ids"][row], batch["ids"][row]
      if person == 36 // EACH:  # none of this person's pictures is left
        assert stand_in not in clean["ids"]
        other += 1
      else:
        assert stand_in == person
        own += 1
  assert own > 10 and other > 10


def test_the_only_picture_of_a_person_does_not_stop_the_run(people):
  data = noise.dataset(20, broken=(0,))
  records = tuple(
    dataclasses.replace(r, identity=i) for i, r in enumerate(data.records)
  )
  data = dataclasses.replace(data, records=records)
  given = dict(sampler="identity", instances=4, batch=8, pipe="resize(24,12)")
  for batch in take(iterate(people, data, **given), 40):
    assert len(set(batch["ids"])) == 2 and (batch["ids"] != 0).all()
    assert (np.bincount(batch["ids"]) % 4 == 0).all()
  # Everybody is in every batch: somebody has to be there twice.
  for batch in take(iterate(people, data, **{**given, "batch": 80}), 3):
    assert 0 not in batch["ids"] and (batch["replaced"] == 0).sum() == 4


# ---- stopping


def test_a_disk_that_goes_away_stops_at_the_next_batch(people, whole, tmp_path):
  class Mount:
    load = whole.load_image

    def __call__(self, record, size):
      return self.load(record, size)

  mount = Mount()
  data = dataclasses.replace(whole, load_image=mount)
  iterator = iterate(people, data, threads=0)
  take(iterator, 3)
  mount.load = images.FileImages(str(tmp_path / "unmounted"))
  with pytest.raises(BadData) as caught:
    next(iterator)
  said = str(caught.value)
  assert "9 pictures in a row of folder train cannot be read" in said
  assert "no such file" in said and "--mode=check" in said
  assert said.count("no such file") == 4 and len(iterator.damage) == 3  # captions


def test_worker_processes_stop_for_people_too(people):
  iterator = iterate(people, noise.dataset(broken=range(20)), workers=1, threads=1)
  with pytest.raises(BadData, match=r"9 pictures in a row"):
    next(iterator)
  iterator.close()
