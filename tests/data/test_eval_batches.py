"""Evaluation sees every picture and every caption once, in the order of the records."""

import numpy as np
import pytest
from PIL import Image

from tests.data.noise import dataset
from tpr_jax.data import eval_batches, tokenizer, transforms

PIPE = "resize(24,12)|flip(0.5)|pad_crop(3)|erase(0.5)"


@pytest.fixture(scope="module")
def people():
  return tokenizer.build("people")


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_image_batches_are_the_records_in_order(threads, count):
  data = dataset(21, broken=(5, 20))
  parts = [
    eval_batches.image_batches(
      data,
      pipe="resize(24,12)",
      batch=4,
      threads=threads,
      process_index=p,
      process_count=count,
    )
    for p in range(count)
  ]
  assert all(len(part) == 6 for part in parts)
  rows = [list(part) for part in parts]
  joined = [np.concatenate([r[s]["image"] for r in rows]) for s in range(6)]
  valid = np.concatenate(
    [np.concatenate([r[s]["valid"] for r in rows]) for s in range(6)]
  )
  images = np.concatenate(joined)
  assert images.shape == (24, 24, 12, 3) and images.dtype == np.uint8
  assert np.flatnonzero(~valid).tolist() == [5, 20, 21, 22, 23]
  assert not images[~valid].any()
  for at in np.flatnonzero(valid):
    source = Image.fromarray(data.load_image(data.records[at], None))
    assert np.array_equal(images[at], np.array(source.resize((12, 24), 2)))
  assert set().union(*(part.damage.unreadable() for part in parts)) == {
    "5.png",
    "20.png",
  }


def test_unreadable_batch_has_the_others_shape_and_type():
  data = dataset(6, broken=(0, 1, 2))
  pipe = "resize(24,12)|normalize"
  first, second = eval_batches.image_batches(data, pipe=pipe, batch=3)
  assert first["image"].shape == second["image"].shape == (3, 24, 12, 3)
  assert first["image"].dtype == second["image"].dtype == np.float32
  assert not first["valid"].any() and second["valid"].all()


def test_evaluation_refuses_random_pipes():
  with pytest.raises(transforms.PipeError, match="is random"):
    eval_batches.image_batches(dataset(), pipe=PIPE, batch=4)


@pytest.mark.parametrize("count", [1, 2])
def test_text_batches_are_all_captions_in_order(people, count):
  data = dataset(21)
  parts = [
    list(
      eval_batches.text_batches(
        data, people, length=24, batch=4, process_index=p, process_count=count
      )
    )
    for p in range(count)
  ]
  joined = {
    key: np.concatenate([part[s][key] for s in range(8) for part in parts])
    for key in parts[0][0]
  }
  assert {k: v.dtype.name for k, v in joined.items()} == {
    "text": "int32",
    "record": "int32",
    "caption": "int32",
    "valid": "bool",
  }
  pairs = [(i, j) for i, r in enumerate(data.records) for j in range(len(r.captions))]
  assert len(pairs) == 31 and joined["valid"].sum() == 31
  assert list(zip(joined["record"], joined["caption"], strict=True)) == [
    *pairs,
    (-1, -1),
  ]
  texts = [data.records[i].captions[j] for i, j in pairs] + [""]
  assert np.array_equal(joined["text"], people.encode(texts, 24)[0])


def test_eval_of_nothing():
  assert list(eval_batches.image_batches(dataset(0), pipe="resize(4,4)", batch=4)) == []
