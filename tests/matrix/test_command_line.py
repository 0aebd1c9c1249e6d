"""Mode matrix as it is typed: mistakes, and one real matrix."""

import csv

import pytest

from tests.command import run as command_line
from tests.matrix import place

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
