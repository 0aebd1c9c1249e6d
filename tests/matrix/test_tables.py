"""The files of a matrix, from numbers that are made up."""

import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from tpr_jax.matrix import files, latex, long_csv, picture, table
from tpr_jax.metrics import per_query
from tpr_jax.sweep.results import spread

SCORES = per_query.SCORES


def numbers(value, low=None):
  found = {score: value + i / 3 for i, score in enumerate(SCORES)}
  found |= dict(queries=40, gallery=20, unmatched=0)
  if low is not None:
    ends = {score: [low, value + 9.0] for score in SCORES}
    found["ci"] = dict(level=0.9, resamples=5, seed=0, identities=7, scores=ends)
  return found


def evaluation(value, groups=(), **options):
  found = dict(t2i=numbers(value, **options), broken_images=0, note="")
  if groups:
    found["groups"] = {group: numbers(value - 1, **options) for group in groups}
  return found


def summary(cells, own=None, **fields):
  """cells: {row: {column: [an evaluation for each model, None: failed]}}."""
  rows, columns = [], list(next(iter(cells.values())))
  for row, found in cells.items():
    models = []
    for i in range(max(map(len, found.values()))):
      mine = {}
      for column, evaluations in found.items():
        cell = evaluations[i] if i < len(evaluations) else None
        mine[column] = dict(problem="", folder=cell and "x", **(cell or {}))
      models.append(dict(model=f"m{i}", place=f"runs/m{i}", about={}, cells=mine))
    combined = {
      column: {
        "t2i": {
          group: {
            score: _spread([part[score] for part in parts], parts, score)
            for score in SCORES
          }
          for group, parts in _grouped(evaluations).items()
        }
      }
      for column, evaluations in found.items()
      if any(evaluations)
    }
    full = {column: combined.get(column, {}) for column in columns}
    rows.append(dict(row=row, own=(own or {}).get(row, ""), models=models, cells=full))
  sizes = dict(queries=1200, gallery=20)
  return (
    dict(
      dict(name="made up", title="trained on", command="python x --a='b|c'"),
      columns=[dict(column=name, entry={}, **sizes) for name in columns],
      scores=["R1", "mAP"],
      decimals=1,
      rows=rows,
      remarks=["100 % made_up & said."],
    )
    | fields
  )


def _grouped(evaluations):
  found = {}
  for one in filter(None, evaluations):
    for group, part in {"": one["t2i"], **one.get("groups", {})}.items():
      found.setdefault(group, []).append(part)
  return found


def _spread(values, parts, score):
  one = spread(values)
  if len(parts) == 1 and "ci" in parts[0]:
    one["ci"] = parts[0]["ci"]["scores"][score]
  return one


TWO = {
  "A": {"x": [evaluation(50.0), evaluation(53.0)], "y": [evaluation(10.0, low=5.0)]},
  "B": {"x": [evaluation(52.0, low=48.25)], "y": [None]},
}


def test_numbers_are_printed_as_they_were_made():
  made = summary(TWO, own={"A": "x"})
  text = table.terminal(made)
  assert re.search(r"^A +51\.5 ± 2\.1\* +10\.0 \[5\.0–19\.0\]$", text, re.M)
  assert re.search(r"^B +52\.0 \[48\.2–61\.0\] +–$", text, re.M)
  assert "Queries in images: x 1,200 in 20" in text
  assert table.number(dict(mean=50.04, std=None), 2) == "50.04"
  assert table.number(None, 1) == "–"


def test_groups_stand_in_a_table_of_their_own():
  groups = ("source=a", "source=b")
  made = summary({"A": {"x": [evaluation(50.0, groups)], "y": [evaluation(9.0)]}})
  text = table.terminal(made)
  assert re.search(r"^R1, x by group +all +source=a +source=b$", text, re.M)
  assert re.search(r"^A +50\.0 +49\.0 +49\.0$", text, re.M)
  assert "y by group" not in text


def test_the_best_of_a_column_is_bold_and_equal_ones_both():
  found = {
    "A": {"x": [evaluation(50.0)], "y": [evaluation(10.0)]},
    "B": {"x": [evaluation(50.04)], "y": [evaluation(9.0)]},
    "C": {"x": [evaluation(40.0)], "y": [None]},
  }
  made = summary(found)
  page = table.markdown(made)
  assert page.count("**50.0**") == 2 and "**10.0**" in page and "**9.0**" not in page
  assert r"\textbf{50.0}" in latex.tabular(made)
  alone = summary({"A": {"x": [evaluation(50.0)]}})
  assert "**" not in table.markdown(alone) and "textbf" not in latex.tabular(alone)


def test_markdown_has_as_many_cells_in_every_line():
  made = summary({"a|b": {"x": [evaluation(50.0)], "y|z": [evaluation(10.0)]}})
  lines = [x for x in table.markdown(made).splitlines() if x.startswith("|")]
  assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_latex_escapes_labels_and_has_a_cell_for_every_score():
  made = summary(
    {"[a_b & 50%": {"x_1": [evaluation(50.0), evaluation(53.0)], "y": [None]}},
    own={"[a_b & 50%": "x_1"},
    title="C:\\~^{$}#",
  )
  text = latex.tabular(made)
  assert r"{[}a\_b \& 50\% & 51.5$^{*}$ {\scriptsize$\pm$2.1}" in text
  assert r"\multicolumn{2}{c}{x\_1} & \multicolumn{2}{c}{y} \\" in text
  assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in text
  escaped = r"C:\textbackslash{}\textasciitilde{}\textasciicircum{}\{\$\}\#"
  assert f"{escaped} & R1 & mAP & R1 & mAP" in text
  assert "& -- & --" in text
  body = [line for line in text.splitlines() if not line.startswith("%")]
  for line in body:
    plain = line.replace(r"\\", "").replace(r"\&", "").replace(r"\%", "")
    assert "%" not in plain
    columns = len(re.findall("&", plain))
    columns += sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d)\}", line))
    assert (line.startswith("\\") and "multi" not in line) or columns == 4, line
  assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
  # What is said stays a comment, also with a line break in it.
  broken = latex.tabular(made | {"remarks": ["one\ntwo"]})
  assert "% one two\n" in broken


def test_csv_holds_every_number_and_reads_back_the_same():
  found = {
    'a,"b"': {
      "x": [evaluation(1 / 3, ("g,1",), low=0.1), evaluation(2.0)],
      "y": [None],
    }
  }
  made = summary(found, own={'a,"b"': "x"})
  lines = list(csv.DictReader(io.StringIO(long_csv.text(made))))
  assert len(lines) == len(SCORES) * 3
  by_key = {(x["model"], x["column"], x["group"], x["score"]): x for x in lines}
  assert len(by_key) == len(lines)
  for i, score in enumerate(SCORES):
    line = by_key["m0", "x", "", score]
    assert float(line["value"]) == 1 / 3 + i / 3
    assert float(line["low"]) == 0.1 and float(line["high"]) == 1 / 3 + 9.0
    assert (line["level"], line["identities"]) == ("0.9", "7")
    assert float(by_key["m0", "x", "g,1", score]["value"]) == 1 / 3 - 1 + i / 3
    other = by_key["m1", "x", "", score]
    assert (other["low"], other["high"], other["level"]) == ("", "", "")
  assert {x["row"] for x in lines} == {'a,"b"'} and {x["own"] for x in lines} == {"1"}
  assert {x["queries"] for x in lines} == {"40"}


def test_the_heat_map_is_darker_where_a_score_is_higher(tmp_path):
  found = {
    "low": {"x": [evaluation(10.0)], "y": [evaluation(20.0)]},
    "high": {"x": [evaluation(80.0)], "y": [None]},
  }
  made = summary(found, own={"high": "x"})
  names = files.write(tmp_path, made, pictures=True)
  assert "matrix.png" in names
  image = Image.open(tmp_path / "matrix.png").convert("RGB")
  pixels = np.asarray(image).reshape(-1, 3)
  from matplotlib import colormaps

  count = lambda rgb: int((np.abs(pixels - np.array(rgb)).max(axis=1) <= 2).sum())
  shades = [
    np.array(colormaps["Blues"](0.08 + 0.8 * share)[:3]) * 255
    for share in (0, 1 / 7, 1)
  ]
  grey, frame = (243, 244, 246), (213, 94, 0)
  for colour in (*shades, grey, frame):
    assert count(colour) > 200
  # One score has a panel of its own, two stand beside each other.
  alone = picture.draw(made | {"scores": ["R1"]})
  assert Image.open(io.BytesIO(alone)).width < image.width


def test_a_picture_of_nothing_is_none(tmp_path):
  made = summary({"A": {"x": [None]}})
  (tmp_path / "matrix.png").write_bytes(b"old")
  assert "matrix.png" not in files.write(tmp_path, made, pictures=True)
  assert not (tmp_path / "matrix.png").exists()
  assert "–" in (tmp_path / "matrix.txt").read_text()


@pytest.mark.parametrize("rows", [1, 12])
def test_one_cell_and_long_names_can_be_drawn(rows):
  found = {
    f"a very long label number {i}": {"another_long_name": [evaluation(50.0)]}
    for i in range(rows)
  }
  assert Image.open(io.BytesIO(picture.draw(summary(found)))).size[0] > 300
