"""data.filter: training sees what a manifest keeps, of the data that it judged."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from tests import small_run
from tests.data import noise
from tpr_jax import data_modes
from tpr_jax.data import build, captions, kept, pipeline, tokenizer
from tpr_jax.data.record import DatasetError
from tpr_jax.data.shards.write import Recipe, write_shards
from tpr_jax.experiment import Experiment


def write(folder, dataset, keep):
  """The manifest that keeps the pairs of these numbers."""
  folder.mkdir(exist_ok=True)
  found = kept.listing(dataset)
  record, number = captions.index(dataset)
  about = dict(name=dataset.name, split=dataset.split, digest=found.digest)
  pairs = len(record)
  header = dict(format=1, data=dict(about, pairs=pairs), pairs=pairs)
  rows = []
  for at, (i, j) in enumerate(zip(record, number, strict=True)):
    one = dataset.records[i]
    sha1 = kept.caption_sha1(one.captions[j])
    rows.append(dict(image=one.image, caption_sha1=sha1, keep=at in keep))
  kept.write_lines(folder / kept.MANIFEST, [header, *rows])
  return str(folder)


def pairs(dataset):
  record, number = captions.index(dataset)
  return [
    (dataset.records[i].image, dataset.records[i].captions[j])
    for i, j in zip(record.tolist(), number.tolist(), strict=True)
  ]


KEEP = {0, 1, 4, 5, 6, 20, 29}


def test_what_is_kept_is_left_and_counted(tmp_path):
  whole = noise.dataset(20)
  place = write(tmp_path / "f", whole, KEEP)
  left = kept.filtered(whole, place)
  assert pairs(left) == [p for at, p in enumerate(pairs(whole)) if at in KEEP]
  assert (
    f"{place} keeps 7 of 30 pairs (23.3 %), 4 of 7 identities" in left.notes[0].text
  )
  assert kept.filtered(whole, "") is whole
  batches = pipeline.train_iterator(
    left, tokenizer.build("people"), pipe="resize(8,4)", length=16, batch=4, seed=0
  )
  assert batches.examples == 7 and "keeps 7 of 30 pairs" in batches.captions
  batches.close()


def test_captions_keep_what_is_known_of_them(tmp_path):
  options = dict(identities=3, views=1, word_noise=0.3)
  whole = build.dataset("rendered", None, "train", options)
  left = kept.filtered(whole, write(tmp_path / "f", whole, {1, 2, 3}))
  assert [len(r.captions) for r in left.records] == [1, 2]
  (truth,) = left.records[0].truth["caption_truth"]
  assert truth == whole.records[0].truth["caption_truth"][1]


def test_a_manifest_of_other_data_is_refused(tmp_path):
  whole = noise.dataset(20)
  place = write(tmp_path / "f", whole, KEEP)
  records = list(whole.records)
  records[7] = dataclasses.replace(records[7], captions=("another", "text"))
  for other in (
    noise.dataset(21),
    dataclasses.replace(whole, records=tuple(records)),
    dataclasses.replace(whole, records=tuple(whole.records[::-1])),
  ):
    with pytest.raises(DatasetError, match="its manifest is of other data"):
      kept.filtered(other, place)


def test_a_folder_without_a_whole_manifest_is_refused(tmp_path):
  whole = noise.dataset(20)
  with pytest.raises(DatasetError, match=r"holds no filter\.jsonl"):
    kept.filtered(whole, str(tmp_path))
  path = tmp_path / "f" / kept.MANIFEST
  place = write(tmp_path / "f", whole, KEEP)
  text = path.read_text()
  path.write_text("".join(text.splitlines(keepends=True)[:-3]))
  with pytest.raises(DatasetError, match=r"has 27 pairs, its header says 30"):
    kept.filtered(whole, place)
  path.write_text(text[: len(text) - 20])
  with pytest.raises(DatasetError, match=r"line 31: not JSON"):
    kept.filtered(whole, place)
  path.write_text(json.dumps(dict(image="a")) + "\n")
  with pytest.raises(DatasetError, match="does not begin with the header"):
    kept.filtered(whole, place)
  place = write(tmp_path / "f", whole, set())
  with pytest.raises(DatasetError, match="none of the 30 pairs"):
    kept.filtered(whole, place)


def test_a_run_trains_on_what_is_kept_and_validates_on_the_same(tmp_path):
  config = small_run.config().copy_and_resolve_references().unlock()
  config.data.val, config.data.val_share = "", 0.25
  train, val = Experiment(config, tmp_path / "a").training_data()
  whole = build.dataset("rendered", "", "train", config.data.options.to_dict())
  keep = set(range(0, whole.caption_count, 2))
  config.data.filter = write(tmp_path / "f", whole, keep)
  left, held = Experiment(config, tmp_path / "b").training_data()
  assert held.records == val.records  # whole, and the same people
  chosen = {p for at, p in enumerate(pairs(whole)) if at in keep}
  assert pairs(left) == [p for p in pairs(train) if p in chosen]
  assert 0 < len(left.records) < len(train.records)


def test_data_modes_write_what_is_kept(tmp_path):
  config = small_run.config().copy_and_resolve_references().unlock()
  whole = build.dataset("rendered", "", "train", config.data.options.to_dict())
  config.data.filter = write(tmp_path / "f", whole, {0, 2})
  found = {d.split: len(d.records) for d in data_modes._datasets(config)}
  assert found["train"] == 2 and found["test"] > 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
  """The same records as shards."""
  folder = tmp_path_factory.mktemp("shards")
  recipe = Recipe(resize=None, quality=95, size=(32, 16), shard_bytes=10**6)
  write_shards(noise.dataset(20, load=noise.Files()), folder, recipe, threads=1)
  return build.dataset("shards", folder, "train", {})


def test_a_stream_is_cut_down_without_being_read(tmp_path, shards):
  place = write(tmp_path / "f", shards, KEEP)
  left = kept.filtered(shards, place)
  expected = [p for at, p in enumerate(pairs(shards)) if at in KEEP]
  assert pairs(left) == expected and left.caption_count == 7
  people = [left.records[i].identity for i in left.stream.record]
  assert left.stream.identities.tolist() == sorted(set(people))
  labels = np.searchsorted(left.stream.identities, people)
  np.testing.assert_array_equal(left.stream.labels, labels)
  assert left.stream.digest != shards.stream.digest
  again = pickle.loads(pickle.dumps(left.records))
  assert again.digest == left.stream.digest
  batches = pipeline.train_iterator(
    left, tokenizer.build("people"), pipe="resize(8,4)", length=16, batch=7, seed=0
  )
  batch = next(batches)
  assert sorted(batch["ids"].tolist()) == sorted(labels.tolist())
  batches.close()


def test_a_stream_needs_a_manifest_of_its_own(tmp_path, shards):
  place = write(tmp_path / "f", noise.dataset(20), KEEP)
  with pytest.raises(DatasetError, match=r"this is noise/train .* read as shards"):
    kept.filtered(shards, place)
