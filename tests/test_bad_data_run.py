"""A run over bad data: what it does, what it writes down, and when it stops."""

import dataclasses
import json

import pytest

from tests import small_run
from tpr_jax import bad_data, training
from tpr_jax.data import build as data_build
from tpr_jax.data.damage import BadData, Damage
from tpr_jax.data.record import ImageError
from tpr_jax.experiment import Experiment
from tpr_jax.report import tables


class Harmed:
  """load_image, with pictures that fail while `harm` lasts."""

  def __init__(self, load_image, names):
    self._load, self.names = load_image, set(names)

  def __call__(self, record, size):
    if record.image in self.names:
      raise ImageError(f"{record.image}: cut short")
    return self._load(record, size)


@pytest.fixture
def harm(monkeypatch):
  """split -> (numbers of broken pictures, numbers of pictures without words)."""
  chosen, load = {}, data_build.dataset

  def dataset(name, root, split, options):
    data = load(name, root, split, options)
    broken, wordless = chosen.get(split, ((), ()))
    records = tuple(
      dataclasses.replace(r, captions=(" ",) if i in wordless else r.captions)
      for i, r in enumerate(data.records)
    )
    names = [records[i].image for i in broken]
    return dataclasses.replace(
      data, records=records, load_image=Harmed(data.load_image, names)
    )

  monkeypatch.setattr(data_build, "dataset", dataset)
  return chosen


def config(**fields):
  c = small_run.config().unlock()
  c.data.cache_mb, c.text.buckets, c.text.short_first = 0, (), 0
  # Less to compile: two losses without heads of their own.
  c.losses.update(sdm_local=0.0, matching=0.0, identity=0.0)
  c.eval.update(saliency=0, ci_resamples=0)
  c.evals.test.i2t = False
  del c.evals.test_coarse
  c.data.update(dict(max_broken=0.1) | fields)
  return c.lock()


def read(folder, name):
  return json.loads((folder / name).read_text(encoding="utf-8"))


def test_too_much_stops_and_the_mended_run_goes_on_and_reports(harm, tmp_path, capsys):
  folder = tmp_path / "run"
  harm.update(train=((3, 5, 8), ()), val=((2,), ()), test=((0, 4), (7,)))
  with pytest.raises(BadData) as caught:
    training.run(Experiment(config(), folder))
  said = str(caught.value)
  assert "3 of the 12 pictures of rendered/train are bad (25 % so far)" in said
  assert "data.max_broken=0.1 allows (1):" in said and "Last checkpoint: none" in said
  assert len(bad_data.read(folder)) == 3
  harm["train"] = ((3,), ())
  training.run(Experiment(config(), folder))
  found = bad_data.read(folder)
  assert (found.data, found.pictures, len(found)) == ("rendered/train", 12, 1)
  assert found.replaced > 0 and found.unreadable() == {
    "train/000003/0": "train/000003/0: cut short"
  }
  assert "broken_images" not in read(folder, "run.json")
  results, said = read(folder, "results.json"), capsys.readouterr().out
  scores = results["evals"]["test"]
  lacks = scores["incomplete"]
  assert scores["broken_images"] == lacks["broken_images"] == 2
  assert (lacks["images"], lacks["queries"], lacks["empty_queries"]) == (10, 10, 1)
  assert scores["t2i"]["gallery"] == 8
  # The empty query counts; those of the lost pictures have nothing to find.
  assert scores["t2i"]["queries"] == 10 and scores["t2i"]["unmatched"] == 2
  listed = bad_data.read(folder, "test")
  assert set(listed.found) == {"damaged", "caption"} and len(listed) == 3
  loud = (
    "test: NOT THE WHOLE GALLERY: 2 of 10 images (20 %) could not be read and are left"
    " out; the scores are not comparable to those of the whole split."
  )
  assert said.count(f"WARNING, {loud}") == 1
  assert "test: 1 of 10 queries have no words" in said
  printed = tables.results_table(results)  # what stands below the scores
  assert loud in printed and "test: 1 of 10 queries have no words" in printed
  assert "1 bad pictures; see bad_data.json." in said
  assert said.count("WARNING, rendered/val: NOT THE WHOLE GALLERY: 1 of 10") == 1
  page = (folder / "report.html").read_text(encoding="utf-8")
  assert "NOT THE WHOLE GALLERY" in page


def test_captions_stop_it_before_anything_is_compiled(harm, tmp_path, monkeypatch):
  harm["train"] = ((), (2, 3))
  monkeypatch.setattr(training.Training, "_program", lambda self: pytest.fail("built"))
  with pytest.raises(BadData, match=r"2 of the 12 pictures") as caught:
    training.run(Experiment(config(), tmp_path / "run"))
  assert "2 pictures with bad captions: train/000002/0: caption 0 is" in str(
    caught.value
  )
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_limit_that_is_no_share_is_a_mistake_of_the_config(share, tmp_path):
  with pytest.raises(Exception, match=r"data\.max_broken=-?.*share from 0") as caught:
    training.run(Experiment(config(max_broken=share), tmp_path / "run"))
  assert type(caught.value).__name__ == "ConfigError"


def test_a_config_from_before_the_field_has_the_default(harm, tmp_path, monkeypatch):
  c = config().unlock()
  del c.data.max_broken
  harm["train"] = ((), (2, 3))
  with pytest.raises(BadData, match=r"data\.max_broken=0\.01 allows \(1\)"):
    training.Training(Experiment(c.lock(), tmp_path / "run"))


# ---- the file


def damage(*names):
  found = Damage("a/train", 10)
  for name in names:
    found.add(name, "missing", f"{name}: no such file")
  return found


def test_the_file_holds_training_and_every_entry(tmp_path):
  bad_data.write(tmp_path, damage(), "test")
  assert not (tmp_path / bad_data.FILE).exists()
  bad_data.write(tmp_path, damage("1.jpg"))
  bad_data.write(tmp_path, damage("2.jpg"), "train")  # an entry may have any name
  bad_data.write(tmp_path, damage("3.jpg"), "test")
  assert bad_data.read(tmp_path) == damage("1.jpg")
  assert bad_data.read(tmp_path, "train") == damage("2.jpg")
  bad_data.write(tmp_path, damage(), "train")
  assert bad_data.read(tmp_path, "train") is None
  assert bad_data.read(tmp_path, "test") == damage("3.jpg")
  bad_data.write(tmp_path, damage(), "test")
  assert read(tmp_path, bad_data.FILE).keys() == {"train"}
  bad_data.write(tmp_path, damage())
  assert not (tmp_path / bad_data.FILE).exists()
