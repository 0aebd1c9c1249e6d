"""What goes wrong with a matrix: it is told, and takes nothing else with it."""

import os
import shutil
import signal

import pytest

from tests.data import layouts
from tests.matrix import place
from tpr_jax import config as configs
from tpr_jax import entries
from tpr_jax.core import lock
from tpr_jax.matrix import run, settings
from tpr_jax.matrix.problems import Interrupted, MatrixError


def test_what_is_missing_is_told_and_the_others_go_on(runs, tmp_path, capsys):
  out = tmp_path / "out"
  rows = {"fine": f"{runs['b']}+{tmp_path}/none", "gone": f"{tmp_path}/nothing.pt"}
  config = place.config(rows).unlock()
  config.columns["lost"] = place.shipped("published").columns.cuhk_pedes
  config.columns.lost.root = str(tmp_path / "nowhere")
  assert place.fill(config.lock(), out) == 1
  summary = place.read(out)
  fine, gone = summary["rows"]
  assert fine["cells"]["fine"]["t2i"][""]["R1"]["n"] == 1
  assert gone["cells"] == {"fine": {}, "coarse": {}, "lost": {}}
  assert summary["finished"] == 2 and summary["cells"] == 9
  captured = capsys.readouterr()
  assert "Traceback" not in captured.err
  for text in (captured.err, " ".join(summary["remarks"])):
    assert f"{tmp_path}/none" in text and "nothing.pt" in text
    assert "test set lost" in text and "nowhere" in text
  problem = fine["models"][0]["cells"]["lost"]["problem"]
  assert "nowhere/CUHK-PEDES" in problem
  table = (out / "matrix.txt").read_text()
  assert "–" in table and "gone" in table
  # What was missing appears, and nothing else is done.
  shutil.copytree(runs["a"], tmp_path / "none")
  assert place.fill(config, out) == 1
  assert "2 finished before" in capsys.readouterr().out
  assert place.read(out)["finished"] == 4


def test_a_cell_that_fails_takes_no_other_with_it(runs, tmp_path, monkeypatch, capsys):
  score = entries.score

  def broken(name, *args, **options):
    if name == "fine":
      raise ZeroDivisionError("nobody expects this")
    return score(name, *args, **options)

  monkeypatch.setattr(entries, "score", broken)
  config = place.config({"fine": runs["a"]})
  assert place.fill(config, tmp_path / "out") == 1
  error = capsys.readouterr().err
  assert "Traceback" in error and "ZeroDivisionError: nobody expects this" in error
  assert place.read(tmp_path / "out")["finished"] == 1
  assert not (tmp_path / "out/cells/fine/a/fine").exists()
  assert not list((tmp_path / "out").rglob("*partial*"))
  # What a kill has left is in nobody's way.
  (tmp_path / "out/cells/fine/a/.fine.partial/rankings").mkdir(parents=True)
  monkeypatch.undo()
  assert place.fill(config, tmp_path / "out") == 0
  assert not list((tmp_path / "out").rglob("*partial*"))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_matrix_goes_on(runs, tmp_path, monkeypatch, capsys, signum):
  out, score, seen = tmp_path / "out", entries.score, []
  config = place.config({"fine": runs["a"]})

  def stopped(name, *args, **options):
    seen.append(name)
    if name == "coarse":
      os.kill(os.getpid(), signum)
    return score(name, *args, **options)

  monkeypatch.setattr(entries, "score", stopped)
  before = signal.getsignal(signum)
  with pytest.raises(Interrupted, match="with 1 of 2 cells finished") as caught:
    place.fill(config, out)
  assert caught.value.signum == signum and signal.getsignal(signum) is before
  assert place.read(out)["finished"] == 1
  assert not list(out.rglob("*partial*"))
  assert "1 of 2 cells are not finished." in (out / "matrix.txt").read_text()
  monkeypatch.setattr(entries, "score", score)
  assert place.fill(config, out) == 0
  assert "1 finished before" in capsys.readouterr().out


def test_one_matrix_at_a_time_and_no_run_is_written_into(runs, tmp_path):
  config = place.config({"fine": runs["a"]})
  with (
    lock.alone(tmp_path / "matrix.lock", "matrix"),
    pytest.raises(MatrixError, match="still at work"),
  ):
    place.fill(config, tmp_path)
  with pytest.raises(MatrixError, match="results of a run"):
    place.fill(config, runs.folder / "a")


def test_values_that_cannot_be_are_said_before_anything_is_loaded(runs, tmp_path):
  for field, value, said in (
    ("msd_variant", "ours", "msd_variant='ours'"),
    ("ci_level", 2.0, "2.0"),
  ):
    config = place.config({"fine": runs["a"]}).unlock()
    config.eval[field] = value
    with pytest.raises(configs.ConfigError, match=said):
      run.Matrix(settings.read(config), tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_read_are_told(runs, tmp_path):
  """UFine3C's keys, by source, two pictures a person and one of them damaged."""
  sources = ("CUHK-PEDES", "ICFG-PEDES", "UFine6926")
  entries = [
    dict(
      split="test",
      id=i // 2,
      file_path=f"images/{i}.jpg",
      captions=layouts.captions(i),
      source=sources[i // 2],
    )
    for i in range(6)
  ]
  layouts.write(tmp_path / "UFine3C", "test.json", entries)
  (tmp_path / "UFine3C" / "images" / "1.jpg").write_bytes(b"no picture")
  config = place.shipped("published,columns=ufine3c,mine=x")
  config.rows["mine"], config.root = runs["a"], str(tmp_path)
  config.eval.batch, config.eval.ci_resamples = 16, 50
  assert place.fill(config.lock(), tmp_path / "out") == 0
  cell = place.cell(tmp_path / "out", "mine", "a", "ufine3c")["evals"]["ufine3c"]
  assert cell["broken_images"] == 1
  assert set(cell["groups"]) == {f"source={name}" for name in sources}
  summary = place.read(tmp_path / "out")
  assert "ufine3c: NOT THE WHOLE GALLERY: 1 of 6 images" in " ".join(summary["remarks"])
  assert set(summary["rows"][0]["cells"]["ufine3c"]["t2i"]) == {"", *cell["groups"]}
