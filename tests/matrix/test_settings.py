"""configs/matrix.py and its fields: what they name, and what they refuse."""

import importlib
import subprocess
import sys

import pytest

from tests.command import ROOT
from tests.matrix.place import config, shipped
from tpr_jax import config as configs
from tpr_jax.data import build
from tpr_jax.matrix import settings
from tpr_jax.matrix.problems import MatrixError


def read(argument, **fields):
  c = shipped(argument)
  c.update(fields)
  return settings.read(c.lock())


def places(found):
  return {row.label: [place.place for place in row.places] for row in found.rows}


def test_rows_and_columns_stand_in_the_order_in_which_they_are_named():
  found = read("rendered,zebra=runs/z,ape=runs/a+runs/b,fine=runs/f")
  assert places(found) == {
    "fine": ["runs/f"],
    "zebra": ["runs/z"],
    "ape": ["runs/a", "runs/b"],
  }
  names = [column.label for column in found.columns]
  assert names == ["fine", "medium", "coarse", "mixed"]
  assert [row.own for row in found.rows] == ["fine", "", ""]
  chosen = read("rendered,a=x,columns=mixed+fine")
  assert [column.label for column in chosen.columns] == ["mixed", "fine"]


def test_rendered_columns_are_the_tests_of_the_runs():
  configs.expose_shipped()
  run = importlib.import_module("configs.cfam").get_config("rendered,texts=coarse")
  for column in read("rendered,a=x").columns:
    entry = run.evals[f"test_{column.label}"]
    options = {**run.data.options, **entry.options}
    assert column.entry["options"] == configs.plain(dict(options))
    assert (column.entry["name"], column.entry["split"]) == ("rendered", entry.split)


def test_published_columns_take_the_root_and_ufine3c_its_sources():
  found = read("published,ufine6926=runs/u,mine@folder=pictures,cross=built", root="D")
  entries = {column.label: column.entry for column in found.columns}
  published = ["cuhk_pedes", "icfg_pedes", "rstpreid", "ufine6926", "ufine3c"]
  assert list(entries) == [*published, "mine", "cross"]
  assert {entries[name]["root"] for name in published} == {"D"}
  assert (entries["mine"]["name"], entries["mine"]["root"]) == ("folder", "pictures")
  assert (entries["cross"]["name"], entries["cross"]["root"]) == ("folder", "built")
  groups = {name: entry["group_by"] for name, entry in entries.items()}
  assert {name for name, group in groups.items() if group} == {"ufine3c", "cross"}
  assert found.rows[0].own == "ufine6926"
  drawn = read("rendered,x=y,far@rendered_target,columns=far").columns[0].entry
  assert drawn["options"]["granularity"] == ["fine", "coarse"]
  for entry in (*entries.values(), drawn):
    assert set(entry["options"]) <= set(build.options_of(entry["name"]))


def test_patterns_become_what_is_there_seed_ten_after_seed_two(tmp_path):
  for name in ("s10", "s2", "s1", "other"):
    (tmp_path / name).mkdir()
  found = read(f"rendered,fine={tmp_path}/s*+{tmp_path}/other+{tmp_path}/s2/")
  (row,) = found.rows
  assert [place.label for place in row.places] == ["s1", "s2", "s10", "other"]
  found = read(f"rendered,fine={tmp_path}/none*")
  assert places(found) == {"fine": [f"{tmp_path}/none*"]}


def test_models_of_one_name_have_folders_of_their_own(tmp_path):
  for folder in ("x", "y"):
    (tmp_path / folder / "run").mkdir(parents=True)
  (row,) = read(f"rendered,fine={tmp_path}/x/run+{tmp_path}/y/run").rows
  labels = [place.label for place in row.places]
  assert len(set(labels)) == 2 and all(name.startswith("run-") for name in labels)


def test_fields_take_commas_and_lists():
  c = shipped()
  c.rows.fine = "runs/a, runs/b"
  assert places(settings.read(c)) == {"fine": ["runs/a", "runs/b"]}
  c.rows.fine, c.rows.mine = "", ("runs/a", "runs/b,c")
  assert places(settings.read(c)) == {"mine": ["runs/a", "runs/b,c"]}


@pytest.mark.parametrize(
  ("argument", "parts"),
  [
    ("publishd", ["'publishd'", "Did you mean 'published'?"]),
    ("rendered,columns=fin", ["'fin'", "'fine'"]),
    ("rendered,L.14=x", ["'L.14'", "dot"]),
  ],
)
def test_a_misspelt_argument(argument, parts):
  with pytest.raises(ValueError, match="config: ") as caught:
    shipped(argument)
  for part in parts:
    assert part in str(caught.value)


@pytest.mark.parametrize(
  ("change", "parts"),
  [
    (lambda c: c.rows.update(fine=""), ["no row has a model", "--config.rows.fine="]),
    (lambda c: c.rows.update(fine=" , "), ["rows.fine", "the place of a model"]),
    (lambda c: c.update(scores=("R2",)), ["scores", "'R2'", "R1, R5"]),
    (lambda c: c.update(scores=()), ["scores", "R1, R5"]),
    (lambda c: c.update(decimals=9), ["decimals", "0 to 4"]),
    (lambda c: c.eval.update(batch=0), ["eval.batch", "1 or more"]),
    (lambda c: c.load.update(dtype="float16"), ["load.dtype", "bfloat16"]),
    (lambda c: c.load.update(image_size=(3,)), ["load.image_size", "(height, width)"]),
    (lambda c: c.own.update(fine="fien"), ["own.fine", "'fien'", "coarse"]),
    (lambda c: c.columns.fine.update(split="tets"), ["columns.fine.split", "test"]),
    (lambda c: c.columns.fine.update(name="cuhk"), ["columns.fine.name", "cuhk_pedes"]),
    (lambda c: c.rows.update({"FINE": "runs/b"}), ["'fine'", "share a folder"]),
    (lambda c: c.rows.update({"&": "runs/b"}), ["'&'", "names no folder"]),
  ],
)
def test_a_value_that_its_field_cannot_have(change, parts):
  c = shipped("rendered,fine=runs/a")
  change(c)
  with pytest.raises(MatrixError) as caught:
    settings.read(c)
  for part in parts:
    assert part in str(caught.value)


def test_a_config_is_read_without_jax():
  code = """
import sys
from tpr_jax import config
from tpr_jax.matrix import settings
config.expose_shipped()
found = config.read(config.resolve("configs/matrix.py"))
print(settings.is_matrix(found), "jax" in sys.modules)
"""
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["True", "False"]


def test_other_configs_are_no_matrix():
  for name in ("cfam", "sweeps", "cross"):
    assert not settings.is_matrix(configs.read(configs.resolve(f"configs/{name}.py")))
  assert settings.is_matrix(config({"fine": "x"}))
