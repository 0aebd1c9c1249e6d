"""Mode matrix as it is typed: mistakes, how it ends, and one real matrix."""

import csv
import signal

import pytest

from tests.command import run as command_line
from tests.matrix import place
from tpr_jax import main
from tpr_jax.matrix import problems

MATRIX = "--config=configs/matrix.py"
MODE = "--mode=matrix"


@pytest.mark.parametrize(
  ("arguments", "code", "parts"),
  [
    ([MODE], 1, ["needs --config", "configs/matrix.py"]),
    ([MODE, f"{MATRIX}:rendered,fine=x"], 1, ["--mode=matrix needs --out=DIR"]),
    ([MODE, MATRIX, "--out=y"], 1, ["no row has a model", "fine=runs/a+runs/b"]),
    ([MODE, MATRIX, "--run=y"], 1, ["--mode=matrix takes no --run"]),
    ([f"{MATRIX}:rendered,fine=x"], 1, ["is a matrix", "--mode=matrix takes it"]),
    ([MODE, "--config=configs/cfam.py"], 1, ["one run", "configs/matrix.py"]),
    ([MODE, f"{MATRIX}:rendred"], 2, ["Did you mean 'rendered'?"]),
    ([MODE, MATRIX, "--config.rows.fin=x"], 2, ["--config.rows.fine?"]),
  ],
)
def test_mistakes_on_the_command_line(tmp_path, arguments, code, parts):
  done = command_line(tmp_path, *arguments)
  assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
  for part in parts:
    assert part in done.stderr
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("error", "code", "text"),
  [
    (
      problems.Interrupted(signal.SIGTERM, 2, 4),
      143,
      "stopped by SIGTERM with 2 of 4 cells finished; the same command continues",
    ),
    (problems.Interrupted(signal.SIGINT, 2, 4), 130, "stopped by SIGINT"),
    (problems.MatrixError("at work"), 1, "error: at work"),
  ],
)
def test_how_a_matrix_leaves(monkeypatch, capsys, error, code, text):
  def work():
    raise error

  monkeypatch.setattr(main, "_dispatch", work)
  monkeypatch.setattr(main.logging, "set_verbosity", lambda _: None)
  with pytest.raises(SystemExit) as caught:
    main.main(None)
  assert caught.value.code == code
  assert text in capsys.readouterr().err


def test_a_matrix_from_the_command_line(runs, tmp_path):
  words = [
    MODE,
    f"{MATRIX}:rendered,columns=coarse,two words={runs['a']},gone=nowhere",
    "--config.columns.coarse.options.identities=10",
    "--config.columns.coarse.options.views=1",
    "--config.eval.batch=16",
    "--config.own.gone=coarse",
    "--out=out",
  ]
  done = command_line(tmp_path, *words)
  assert done.returncode == 1, done.stdout + done.stderr
  assert "Traceback" not in done.stderr and "FAILED: model nowhere" in done.stderr
  assert "[1/2] two words on coarse: R1 " in done.stdout
  assert "two words" in done.stdout and "out: matrix.json, matrix.txt" in done.stdout
  with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
    lines = list(csv.DictReader(file))
  assert {line["model"] for line in lines} == {"a"}
  summary = place.read(tmp_path / "out")
  assert summary["command"].endswith("--out=out")
  for line in lines:
    found = summary["rows"][0]["cells"]["coarse"]["t2i"][""][line["score"]]
    assert float(line["value"]) == found["values"][line["model"]]
