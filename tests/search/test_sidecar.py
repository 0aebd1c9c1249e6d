"""Side-cars: formats, kinds of columns, and what is told about bad ones."""

import datetime

import pytest

from tpr_jax.search import sidecar
from tpr_jax.search.problems import SearchError

DAY = datetime.datetime(2026, 1, 31, 12, 30)


def read(tmp_path, said, name="table.csv"):
  path = tmp_path / name
  path.write_text(said, encoding="utf-8")
  return sidecar.read(path)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_has_columns_of_kinds(tmp_path, mark):
  lines = [
    ["path", "camera", "floor", "speed", "time", "staff", "note"],
    ["a/1.jpg", "007", "3", "1.5", "2026-01-31 12:30", "true", ""],
    ["./a\\2.jpg", "8", "-1", "2", "2026-01-31T13:30+01:00", "False", '"x, y; z"'],
    ["a/3.jpg", "9", "", "", "", "", "z"],
  ]
  found = read(tmp_path, "\n".join(mark.join(line) for line in lines) + "\n")
  assert found.columns == {
    "camera": "text",  # 007 is no number
    "floor": "whole number",
    "speed": "number",
    "time": "time",
    "staff": "yes or no",
    "note": "text",
  }
  assert found.of("a/1.jpg") == dict(
    camera="007", floor=3, speed=1.5, time=DAY, staff=True, note=None
  )
  assert found.of("a/2.jpg")["time"] == DAY
  assert found.of("a/2.jpg")["note"] == "x, y; z"
  assert set(found.of("a/3.jpg").values()) == {"9", None, "z"}
  assert set(found.of("elsewhere.jpg").values()) == {None}


@pytest.mark.parametrize(
  ("name", "said"),
  [
    ("a.json", '[{"path": "é.jpg", "floor": 1}, {"path": "2.jpg", "floor": 2.5}]'),
    ("a.json", '{"é.jpg": {"floor": 1}, "2.jpg": {"floor": 2.5}}'),
    ("a.jsonl", '{"path": "é.jpg", "floor": 1}\n\n{"path": "2.jpg", "floor": 2.5}\n'),
  ],
)
def test_json_in_three_forms_and_accents_in_two(tmp_path, name, said):
  found = read(tmp_path, said, name)
  assert found.columns == {"floor": "number"}
  assert found.of("e\u0301.jpg") == found.of("\xe9.jpg") == {"floor": 1.0}


@pytest.mark.parametrize(
  ("name", "said", "parts"),
  [
    ("a.csv", "file,camera\n1.jpg,x\n", ["file, camera", "'path'"]),
    ("a.csv", "paths,camera\n1.jpg,x\n", ["rename 'paths'"]),
    ("a.csv", "path,camera\n1.jpg\n", ["line 2", "fewer"]),
    ("a.csv", "path,camera\n1.jpg,x,y\n", ["line 2", "more"]),
    ("a.csv", "path,camera\n1.jpg,x\n1.jpg,y\n", ["line 3", "second time"]),
    ("a.csv", "path,Vector\n1.jpg,x\n", ["'vector'", "another name"]),
    ("a.csv", "path,a.b\n1.jpg,x\n", ["'a.b'", "letters"]),
    ("a.csv", "path,cam,Cam\n1.jpg,x,y\n", ["case alone"]),
    ("a.csv", "path,time\n1.jpg,noon\n", ["1.jpg", "'noon'", "2026-01-31"]),
    ("a.json", "[1]", ["entry 1", "object"]),
    ("a.json", "3", ["list of objects"]),
    ("a.json", "{", ["broken JSON"]),
    ("a.json", '[{"path": "a", "b": [1]}]', ["'b'", "list"]),
    ("a.json", '[{"file": "a"}]', ["entry 1", "no 'path'", "file"]),
    ("a.txt", "", ["'.txt'", ".csv"]),
  ],
)
def test_what_is_wrong_is_told(tmp_path, name, said, parts):
  with pytest.raises(SearchError) as told:
    read(tmp_path, said, name)
  for part in parts:
    assert part in str(told.value)
