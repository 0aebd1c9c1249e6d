"""A run evaluated by two processes, and by one: the same files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import common
from tests import several, small_run, written_run
from tests.data import noise

DEVICES = 4
BROKEN = "imgs/11.jpg"  # of 16 rows of a batch the second process reads 8 to 15
ROUNDING = 2e-6  # relative, of a float32 score; processes may add in another order


def own_pictures(folder):
  """18 noisy JPEGs of 6 people in the layout of `:folder`, one of them cut short."""
  (folder / "imgs").mkdir(parents=True)
  rows = []
  for i, record in enumerate(noise.dataset(18).records):
    picture = noise.Pictures()(record, None)
    Image.fromarray(picture).save(folder / f"imgs/{i}.jpg", quality=90)
    for text in record.captions:
      rows.append(dict(image=f"imgs/{i}.jpg", caption=text, identity=i // 3))
  path = folder / BROKEN
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  (folder / "people.jsonl").write_text("\n".join(map(json.dumps, rows)))


def config(pictures):
  c = small_run.config()
  with c.unlocked():
    del c.evals["test_coarse"]
    c.evals.own = common.evaluation("test", name="folder", root=str(pictures))
  c.eval.rerank.update(by="matcher", top=4, combine="dist", global_weight=0.002)
  c.eval.flip = True
  c.eval.saliency, c.eval.ci_resamples, c.eval.save_features = 1, 100, True
  return c


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """[folder scored by one process, by two]: copies of one run with drawn weights."""
  root = tmp_path_factory.mktemp("several")
  own_pictures(root / "pictures")
  written_run.write(root / "run", scores={3: 20.0}, config=config(root / "pictures"))
  (root / "run" / "results.json").unlink()
  started = []
  for count in (1, 2):
    folder = root / str(count)
    shutil.copytree(root / "run", folder / "run")
    arguments = ("--mode=eval", f"--run={folder / 'run'}")
    devices = DEVICES // count
    started.append(
      several.Several(folder, *arguments, count=count, devices=devices, timeout=60)
    )
  for count, run in zip((1, 2), started, strict=True):
    assert run.wait() == [0] * count, "".join(map(run.said, range(count)))
  return [root / str(count) for count in (1, 2)]


def results(folder):
  """results.json without the times of the second stage."""
  found = json.loads((folder / "run" / "results.json").read_text())
  for entry in found["evals"].values():
    if "rerank" in entry:
      assert entry["rerank"].pop("seconds_per_query") > 0
      entry["note"] = entry["note"].split(" ms per query")[0].rsplit(",", 1)[0]
  return found


def close(one, two, where="results"):
  """Numbers within rounding of a mean of 10 and more float32 scores, all else equal."""
  assert type(one) is type(two), where
  if isinstance(one, dict):
    assert list(one) == list(two), where
    for key in one:
      close(one[key], two[key], f"{where}/{key}")
  elif isinstance(one, list):
    assert len(one) == len(two), where
    for i, (a, b) in enumerate(zip(one, two, strict=True)):
      close(a, b, f"{where}/{i}")
  elif isinstance(one, float):
    assert two == pytest.approx(one, rel=ROUNDING, abs=1e-6), where
  else:
    assert one == two, where


def arrays_equal(one, two):
  """Two .npz files: whole numbers and strings equal, floats within rounding."""
  with np.load(one) as a, np.load(two) as b:
    assert sorted(a.files) == sorted(b.files)
    for name in a.files:
      if a[name].dtype.kind == "f":
        np.testing.assert_allclose(a[name], b[name], ROUNDING, 1e-6, err_msg=name)
      else:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def files(folder):
  return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_results_are_equal(runs):
  one, two = map(results, runs)
  assert list(one["evals"]) == ["own", "own.reranked", "test", "test.reranked"]
  assert set(one["evals"]["test"]) >= {"t2i", "i2t", "groups"}
  assert one["evals"]["own"]["t2i"]["ci"]["scores"]
  close(one, two)


def test_a_broken_picture_in_the_share_of_the_second_is_left_out(runs):
  for folder in runs:
    entry = results(folder)["evals"]["own"]
    assert entry["broken_images"] == 1 and entry["t2i"]["gallery"] == 17
  with np.load(runs[1] / "run" / "rankings" / "own.npz") as ranking:
    assert 11 not in ranking["top"] and len(ranking["query_record"]) == 27


def test_the_same_files_are_written_once(runs):
  one, two = (folder / "run" for folder in runs)
  assert files(one) == files(two)
  names = [path.as_posix() for path in files(two)]
  for kind in ("rankings", "saliency", "features"):
    found = [name for name in names if name.startswith(kind)]
    assert len(found) == (4 if kind == "rankings" else 2)
    for name in found:
      arrays_equal(one / name, two / name)


def test_features_are_equal_to_the_byte(runs):
  for name in ("test", "own"):
    paths = [folder / "run" / "features" / f"{name}.npz" for folder in runs]
    with np.load(paths[0]) as one, np.load(paths[1]) as two:
      for key in one.files:
        assert one[key].tobytes() == two[key].tobytes(), (name, key)


def test_only_the_first_process_speaks(runs):
  first, second = ((runs[1] / f"out{i}.txt").read_text() for i in (0, 1))
  assert "Evaluating step 3" in first and "Report: " in first
  assert "test.reranked" in first
  quiet = [line for line in second.splitlines() if not line.startswith("[Gloo]")]
  assert not [line for line in quiet if "test" in line or "Report" in line], second
