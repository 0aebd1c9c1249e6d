import json

import numpy as np
import pytest

from tpr_jax.report import files


def test_everything_is_read(finished):
  run = files.read(finished[0])
  assert set(run.rankings) == {"fine", "coarse"} and not run.missing
  assert [line["step"] for line in run.train] == list(range(10, 601, 10))
  assert len(run.val) == 10 and run.val[0]["queries"] == 200
  assert run.config["optim"]["lr"] == 1e-3 and run.run["parameters"] == 1_534_210


@pytest.mark.parametrize(
  "name, sentence",
  [
    ("config.json", "config.json is not in the run folder"),
    ("run.json", "run.json is not in the run folder"),
    ("rankings/fine.npz", "rankings/fine.npz is not in the run folder: no pictures"),
  ],
)
def test_missing_file_is_said(run, name, sentence):
  folder, _ = run
  (folder / name).unlink()
  missing = files.read(folder).missing
  assert any(sentence in said for said in missing)
  assert any("there is no validation curve" in said for said in missing)
  assert any("there are no loss curves" in said for said in missing)


def test_no_results_is_an_error(tmp_path):
  with pytest.raises(files.ReportError, match=r"results\.json does not exist.*eval"):
    files.read(tmp_path)


@pytest.mark.parametrize(
  "name, text, message",
  [
    ("results.json", "{", r"results\.json cannot be read as JSON"),
    ("results.json", "[]", r"results\.json holds a list"),
    ("results.json", '{"evals": {}}', r"results\.json: results hold no evaluation"),
    ("config.json", "nothing", r"config\.json cannot be read as JSON"),
    ("metrics.jsonl", '{"step": 1}\n{"step": 2, "kind": "train"}\n', "line 1: .*kind"),
    ("rankings/fine.npz", "PK", r"fine\.npz cannot be read"),
  ],
)
def test_file_that_makes_no_sense_is_named(run, name, text, message):
  folder, _ = run
  (folder / name).write_text(text)
  with pytest.raises(files.ReportError, match=message):
    files.read(folder)


def test_last_line_cut_off_by_a_kill_is_left_out(run):
  folder, _ = run
  line = json.dumps(dict(step=3, kind="train", loss=1.0))
  (folder / "metrics.jsonl").write_text(f"{line}\n{line[:20]}")
  assert len(files.read(folder).train) == 1


def test_ranking_with_wrong_arrays_is_named(run):
  folder, _ = run
  path = folder / "rankings" / "fine.npz"
  arrays = dict(np.load(path))
  np.savez(path, **{key: value for key, value in arrays.items() if key != "ap"})
  with pytest.raises(files.ReportError, match=r"fine\.npz has no array 'ap'"):
    files.read(folder)
  np.savez(path, **{**arrays, "ap": arrays["ap"][:-1]})
  with pytest.raises(files.ReportError, match=r"fine\.npz: 'ap' has shape \(47,\)"):
    files.read(folder)
  np.savez(path, **{**arrays, "top": arrays["top"][:, :4]})
  with pytest.raises(files.ReportError, match=r"'top' \(48, 4\) and 'score'"):
    files.read(folder)


def test_series_leaves_out_what_is_no_number():
  lines = [dict(step=1, a=2.0), dict(step=2), dict(step=3, a=float("nan")),
           dict(step=4, a="x"), dict(step=5, a=3)]  # fmt: skip
  assert files.series(lines, "a") == ([1, 5], [2.0, 3])
