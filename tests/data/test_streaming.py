"""Training on a stream: the batches of the same dataset in memory, in another order."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tests.data import bad_folder
from tests.data.noise import TEXT, Files, dataset
from tests.data.test_shards import written
from tpr_jax.data import (
  build,
  captions,
  check,
  eval_batches,
  examples,
  pipeline,
  sampler,
  tokenizer,
)
from tpr_jax.data.damage import Damage
from tpr_jax.data.record import DatasetError

PIPE = "resize(24,12)|flip(0.5, words='swap')|pad_crop(3)|erase(0.5)"
WORDLESS = (6, 17, 33)  # records whose second, or only, caption has no words


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


def with_wordless(broken=()):
  """60 records, some with captions that a tokenizer finds empty."""
  data = dataset(60, load=Files(broken))
  empty = dict.fromkeys(WORDLESS, " \t")
  records = tuple(
    dataclasses.replace(r, captions=(*r.captions[:-1], empty.get(i, r.captions[-1])))
    for i, r in enumerate(data.records)
  )
  return dataclasses.replace(data, records=records)


def iterate(people, data, **kwargs):
  given = dict(pipe=PIPE, length=24, batch=8, seed=3, threads=2, prefetch=2)
  return pipeline.train_iterator(data, people, **{**given, **kwargs})


def take(iterator, count=12):
  return [next(iterator) for _ in range(count)]


def assert_same(a, b):
  for one, other in zip(a, b, strict=True):
    assert set(one) == set(other)
    for key in one:
      assert one[key].dtype == other[key].dtype
      assert np.array_equal(one[key], other[key]), key


def plain(damage):
  return json.loads(json.dumps(damage.to_json()))


# ---- the same batches


@pytest.mark.parametrize("given", [dict(), dict(sampler="identity", instances=2)])
@pytest.mark.parametrize("cache", [0, 4])
def test_batches_are_those_of_the_dataset_in_memory(
  people, tmp_path, monkeypatch, given, cache
):
  data = dataset(60, load=Files((4, 11)))
  stream = iterate(people, written(tmp_path, data), cache_mb=cache, **given)
  computed = sampler.order

  def order(*args, **kwargs):
    return computed(*args, **{**kwargs, "stored": False})

  monkeypatch.setattr(sampler, "order", order)
  memory = iterate(people, data, **given)
  assert stream.examples == memory.examples == 90
  assert_same(take(stream, 30), take(memory, 30))
  assert stream.damage == memory.damage and stream.damage.replaced


def test_order_labels_and_rows_are_those_of_the_captions(people, tmp_path):
  data = dataset(60)
  found = written(tmp_path, data)
  want = captions.usable(data, people, 24, Damage("noise/train", 60))
  given = captions.usable(found, people, 24, Damage("noise/train", 60))
  for name in ("record", "number", "labels"):
    assert np.array_equal(getattr(given, name), getattr(want, name)), name
  assert given.report() == want.report() and given.length == want.length
  for at in range(0, 90, 7):
    record = found.records[given.record[at]]
    one, other = given.read(at, record), want.read(at, record)
    assert one[0] == other[0] and np.array_equal(one[1], other[1])
  met = [int(i) for b in take(iterate(people, found), 45) for i in b["example"]]
  for epoch in range(4):  # each is a permutation, and no two are the same
    assert sorted(met[90 * epoch : 90 * epoch + 90]) == list(range(90))
  assert len({tuple(met[90 * e : 90 * e + 90]) for e in range(4)}) == 4


@pytest.mark.parametrize("given", [dict(), dict(sampler="identity", instances=2)])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(people, tmp_path, count, given):
  data = written(tmp_path, with_wordless(broken=(4, 11)))
  golden = take(iterate(people, data, **given))
  parts = [
    take(iterate(people, data, process_index=p, process_count=count, **given))
    for p in range(count)
  ]
  joined = [
    {key: np.concatenate([part[s][key] for part in parts]) for key in golden[s]}
    for s in range(len(golden))
  ]
  assert_same(joined, golden)


@pytest.mark.parametrize("given", [dict(threads=0), dict(threads=5), dict(cache_mb=1)])
def test_threads_and_cache_change_nothing(people, tmp_path, given):
  data = written(tmp_path, with_wordless(broken=(4, 11)))
  golden = take(iterate(people, data, threads=1))
  assert_same(take(iterate(people, data, **given)), golden)


def test_worker_processes_change_nothing(people, tmp_path):
  data = written(tmp_path, with_wordless(broken=(4,)))
  golden, iterator = iterate(people, data), iterate(people, data, workers=2, threads=1)
  assert_same(take(iterator, 5), take(golden, 5))
  assert iterator.damage.found == golden.damage.found
  iterator.close()


# ---- restarts


def test_resume_is_exact_on_any_number_of_processes(people, tmp_path):
  data = written(tmp_path, with_wordless(broken=(4, 11)))
  straight = iterate(people, data)
  golden = take(straight, 40)
  first = [iterate(people, data, process_index=p, process_count=2) for p in range(2)]
  for part in first:
    take(part, 15)
  state = json.loads(json.dumps(first[0].get_state()))
  assert state == first[1].get_state()
  known = first[0].damage.merge(
    Damage.from_json({**first[1].damage.to_json(), "replaced": 0})
  )
  known.replaced = sum(part.damage.replaced for part in first)
  resumed = iterate(people, data, threads=0)
  resumed.set_state(state)
  resumed.restore_damage(plain(known))
  assert_same(take(resumed, 25), golden[15:])
  assert plain(resumed.damage) == plain(straight.damage)
  assert set(resumed.damage.found) == {"caption", "damaged"}


def test_a_place_in_another_set_is_refused(people, tmp_path):
  state = iterate(people, written(tmp_path / "a", dataset(60))).get_state()
  iterate(people, written(tmp_path / "b", dataset(60))).set_state(
    state
  )  # written again
  records = dataset(60).records
  turned = dataclasses.replace(dataset(60), records=records[3:] + records[:3])
  other = iterate(people, written(tmp_path / "c", turned))
  with pytest.raises(ValueError, match="it has shards='"):
    other.set_state(state)
  with pytest.raises(ValueError, match="shards="):  # in memory the order is another one
    iterate(people, dataset(60)).set_state(state)


# ---- captions and records that are no use


def test_captions_without_words_are_replaced_and_listed(people, tmp_path):
  whole = iterate(people, written(tmp_path / "whole", dataset(60, load=Files())))
  data = written(tmp_path / "bad", with_wordless())
  iterator = iterate(people, data)
  assert iterator.examples == 90 and not iterator.damage  # nothing was read yet
  stood = 0
  for batch, other in zip(take(iterator, 40), take(whole, 40), strict=True):
    texts = [data.records[i].captions for i in other["image_id"]]
    number = data.stream.number[other["example"]]
    lost = np.array([t[n] == " \t" for t, n in zip(texts, number, strict=True)])
    assert np.array_equal(batch["replaced"] >= 0, lost)
    assert np.array_equal(batch["replaced"][lost], other["image_id"][lost])
    for key in ("image", "text", "example", "ids"):
      assert np.array_equal(batch[key][~lost], other[key][~lost])
    for row in np.flatnonzero(lost):  # the stand-in is a pair of its own
      at = batch["example"][row]
      record = data.records[data.stream.record[at]]
      caption = record.captions[data.stream.number[at]]
      both = [caption, caption.replace("left", "right")]  # the pipe swaps them
      assert batch["text"][row].tolist() in people.encode(both, 24)[0].tolist()
      assert data.identities[batch["ids"][row]] == record.identity
      assert batch["image_id"][row] == data.stream.record[at]
    stood += int(lost.sum())
  assert iterator.damage.replaced == stood > 5
  assert iterator.damage.found == {
    "caption": {
      f"{n}.png": f"{n}.png: caption {n % 2} is empty (' \\t')" for n in WORDLESS
    }
  }


def test_a_damaged_record_is_replaced_and_no_longer_listed_once_mended(
  people, tmp_path
):
  data = written(tmp_path, dataset(60))
  folder = tmp_path / "noise" / "train"
  path = sorted(folder.glob("*.array_record"))[2]
  good = path.read_bytes()
  at = good.index(TEXT[0].encode(), 5_000)
  path.write_bytes(good[:at] + b"?" + good[at + 1 :])
  iterator = iterate(people, data)
  batches = take(iterator, 30)
  ((name, reason),) = iterator.damage.unreadable().items()
  assert name.startswith("record ") and name.endswith(f" of {path.name}")
  assert reason.startswith(f"{name} cannot be read: Corrupted")
  assert sum((b["replaced"] >= 0).sum() for b in batches) == iterator.damage.replaced
  for mended in (False, True):
    if mended:
      path.write_bytes(good)
    resumed = iterate(people, written_again(tmp_path))
    resumed.set_state(iterator.get_state())
    resumed.restore_damage(plain(iterator.damage))
    assert set(resumed.damage.unreadable()) == (set() if mended else {name})
    assert resumed.damage.replaced == iterator.damage.replaced


def written_again(folder):
  return build.dataset("shards", folder, "train")


def test_a_disk_that_goes_away_stops_it(people, tmp_path):
  data = written(tmp_path, dataset(60))
  for path in (tmp_path / "noise" / "train").glob("*.array_record"):
    path.unlink()
  with pytest.raises(DatasetError, match=r"9 pictures in a row.*No such file"):
    take(iterate(people, data))


def test_what_was_bad_when_it_was_written_is_known_from_the_start(people, tmp_path):
  bad_folder.write(tmp_path / "set")
  original = bad_folder.load(tmp_path / "set")
  iterator = iterate(people, written(tmp_path / "out", original))
  assert len(iterator.damage) == 9
  assert iterator.captions.endswith(
    "; 2 more are empty or no text and are left out (2 pictures)"
  )
  memory = iterate(people, original)
  for one in (iterator, memory):
    take(one, 60)
  assert iterator.damage.found == memory.damage.found  # in the end all of it is known


# ---- what a stream never does


def test_training_begins_without_reading_the_records(people, tmp_path, monkeypatch):
  data, read = written(tmp_path, dataset(300)), []
  real = type(data.records)._read

  def count(self, place):
    read.append(place)
    return real(self, place)

  monkeypatch.setattr(type(data.records), "_read", count)
  monkeypatch.setattr(captions, "_SAMPLE", 20)
  iterator = iterate(people, data)
  assert len(read) == 20 and len(set(read)) == 20  # for the report alone
  assert iterator.captions.endswith(
    ": a sample of 450, which are encoded as they are read"
  )
  assert iterator.captions.startswith("0 of 20 captions exceed 24 tokens (longest ")
  assert len(data.identities) == 100 and data.caption_count == 450
  iterator.set_state({**iterator.get_state(), "step": 10**6})
  iterator.restore_damage(plain(iterator.damage))
  take(iterator, 2)
  iterator.close()
  assert len(set(read)) < 20 + 8 * 12  # and those of the batches


def test_what_needs_all_captions_first_is_refused(people, tmp_path):
  data = written(tmp_path, dataset(60))
  with pytest.raises(ValueError, match=r"text\.buckets is \(12,\), but noise is read"):
    iterate(people, data, buckets=(12,))
  with pytest.raises(
    DatasetError, match=r"no identities can be set aside \(a share of"
  ):
    build.hold_out(data, 0.1, 0)
  short = dataclasses.replace(data.records._manifest)
  assert short == data.records._manifest  # plain values, which workers are sent


def test_an_index_that_belongs_to_other_records_is_told(people, tmp_path):
  data = written(tmp_path, dataset(60))
  data.records.number = np.full_like(data.records.number, 7)
  with pytest.raises(DatasetError, match="the index asks for number 7"):
    take(iterate(people, data))


# ---- evaluation, check


def test_evaluation_reads_a_stream_in_order(people, tmp_path):
  data = with_wordless(broken=(4,))
  found = written(tmp_path, data)
  given = dict(pipe="resize(24,12)", batch=16)
  one = eval_batches.image_batches(found, **given)
  other = eval_batches.image_batches(data, **given)
  assert_same(list(one), list(other))
  assert one.damage == other.damage and one.damage
  texts = [
    list(eval_batches.text_batches(each, people, length=24, batch=16))
    for each in (found, data)
  ]
  assert_same(*texts)
  report = eval_batches.caption_report
  assert report(found, people, 9) == report(data, people, 9)


def test_a_stream_is_checked_like_any_dataset(tmp_path):
  data = with_wordless(broken=(4,))
  one, other = check.check([written(tmp_path, data)]), check.check([data])
  assert one.to_json() == other.to_json()


def test_the_name_of_a_picture_survives_a_shard_that_fails_meanwhile(tmp_path):
  data = written(tmp_path, dataset(60))
  error = captions.NoWords("no words")
  assert examples.problem(data, 3, error) == (3, "3.png", "caption", "no words")
  for path in (tmp_path / "noise" / "train").glob("*.array_record"):
    os.truncate(path, 0)
  _, name, *_ = examples.problem(data, 59, error)
  assert name.startswith("record ")
