"""Where phrases look, on the page and in the terminal."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.report.run_folder import write_json
from tests.report.test_report import QUICK, Page
from tpr_jax import localise
from tpr_jax.localise_files import Looks
from tpr_jax.metrics import localisation
from tpr_jax.metrics.uncertainty import Bootstrap
from tpr_jax.report import files, looks, report

GRID = (6, 3)
UPPER, LOWER = (0.5, 0.37, 0.4, 0.34), (0.5, 0.73, 0.4, 0.38)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
  monkeypatch.setattr(report.spread, "draw", lambda ranking: [])


def with_regions(data):
  """Block people with the boxes of their two garments."""
  records = []
  for one in data.records:
    listed = [
      dict(region="upper", box=list(UPPER), phrase=f"a {one.truth['upper']} <jacket>"),
      dict(region="lower", box=list(LOWER), phrase=f"{one.truth['lower']} trousers"),
    ]
    records.append(dataclasses.replace(one, truth={**one.truth, "regions": listed}))
  return dataclasses.replace(data, records=tuple(records))


def seen(data, wrong=()):
  """Maps at the boxes, those of `wrong` at the other garment."""
  rows = [(at, k) for at in range(len(data.records)) for k in range(2)]
  boxes = np.array([(UPPER, LOWER)[k] for _, k in rows])
  looked = [(UPPER, LOWER)[k ^ (i in wrong)] for i, (_, k) in enumerate(rows)]
  maps = localisation.coverage(looked, GRID).astype(np.float32) + 0.02
  record, region = np.array(rows, np.int32).T
  listed = [data.records[at].truth["regions"][k] for at, k in rows]
  return Looks(
    by="words",
    grid=GRID,
    size=(96, 40),
    layers=np.array([2, 3], np.int32),
    record=record,
    region=region,
    phrase=np.array([one["phrase"] for one in listed]),
    kind=np.array([one["region"] for one in listed]),
    box=boxes,
    maps=np.stack([maps, 3 * maps], axis=1),
    other=1 - region,
    other_map=maps[:, ::-1],
  )


@pytest.fixture
def looked(run):
  folder, datasets = run
  datasets["fine"] = data = with_regions(datasets["fine"])
  found = seen(data, wrong=(4, 9))
  results = dict(files.read(folder).results)
  how = Bootstrap(resamples=50)
  results["evals"]["fine"]["localise"] = localise.summary(found, data, how)
  write_json(folder / "results.json", results)
  localise.keep(folder, "fine", found)
  return folder, datasets, found


def test_random_best_and_worst(looked):
  _, datasets, found = looked
  shown, said = looks.gather(found, datasets["fine"], seed=0, count=4)
  assert not said and {k: len(v) for k, v in shown.items()} == dict.fromkeys(
    ("random", "best", "worst"), 4
  )
  energy = localisation.measure(found.mean, found.box, GRID)["energy"] * 100
  assert {one.phrase for one in shown["worst"][:2]} == set(found.phrase[[4, 9]])
  assert shown["worst"][0].energy == pytest.approx(energy.min())
  assert shown["best"][0].energy == pytest.approx(energy.max())
  # Every picture's trousers are as good: no picture is there twice.
  assert len({one.uri for one in shown["best"]}) == 4
  again, _ = looks.gather(found, datasets["fine"], seed=0, count=4)
  assert [one.uri for one in again["random"]] == [one.uri for one in shown["random"]]


def test_the_frame_is_at_the_box_and_the_heat_where_the_map_is():
  weights = np.zeros(GRID)
  weights[4, 1] = 1
  grey = Image.new("RGB", (48, 115), (128, 128, 128))
  found = np.asarray(looks.overlay(grey, weights, np.array([0.5, 0.25, 0.5, 0.3])))
  height, width = found.shape[:2]
  blue = (np.abs(found.astype(int) - looks.BOX).max(axis=2) < 3).nonzero()
  edges = [each(axis) for axis in blue for each in (np.min, np.max)]
  expected = [0.1 * height, 0.4 * height, 0.25 * width, 0.75 * width]
  np.testing.assert_allclose(edges, expected, atol=2)
  red, _, low = found[round(4.5 * height / 6), width // 2].astype(int)
  assert red > low + 80


def test_page_pictures_and_terminal_tell_the_same(looked):
  folder, datasets, _ = looked
  path = report.write(folder, datasets, **QUICK)
  page = Page(path.read_text("utf-8"))
  assert page.words.count("Where phrases look") == 1 and "jacket" not in page.tags
  rows = looks.rows(files.read(folder).results["evals"]["fine"]["localise"])
  names = ["all", "lower", "upper", "layer 2", "layer 3", "another phrase's map",
           "same everywhere", "the box itself"]  # fmt: skip
  assert [row.name for row in rows] == names
  table = "\n".join(looks.lines(files.read(folder).results))
  assert table.startswith("\nWhere phrases look, fine: 96 phrases, each asked")
  for row in rows:
    assert row.name in page.words
    for text in (*row.cells.values(), *row.spans.values()):
      assert text in page.words and text in table
  assert rows[0].cells["pointing"] == f"{100 * 94 / 96:.2f}"
  sheet = Image.open(folder / "report" / "looks_fine.png")
  assert sheet.width > 1000 and sheet.height > 700
  assert looks.lines(dict(evals=dict(a=dict(t2i={})))) == []


def test_phrases_of_other_data_are_left_out_and_an_odd_file_is_named(looked):
  folder, datasets, _ = looked
  records = list(datasets["fine"].records)
  truth = {**records[3].truth, "regions": []}
  records[3] = dataclasses.replace(records[3], truth=truth)
  datasets["fine"] = dataclasses.replace(datasets["fine"], records=tuple(records))
  page = Page(report.write(folder, datasets, **QUICK).read_text("utf-8"))
  assert "fine: Phrases were looked for in another evaluation" in page.words
  assert not (folder / "report" / "looks_fine.png").exists()
  (folder / "localise" / "fine.npz").write_text("no zip")
  with pytest.raises(report.ReportError, match=r"localise/fine\.npz cannot be used"):
    report.write(folder, datasets, **QUICK)


def test_a_broken_picture_is_left_out_and_said(looked):
  _, datasets, found = looked
  name = datasets["fine"].records[found.record[4]].image
  loader = type(datasets["fine"].load_image)([name])
  broken = dataclasses.replace(datasets["fine"], load_image=loader)
  shown, said = looks.gather(found, broken, seed=0)
  assert len(shown["worst"]) == looks.SHOWN - 1
  assert said == [f"cannot be shown: {name}: image file is truncated"]


def test_a_run_without_phrases_has_no_section(run):
  page = report.write(*run, **QUICK).read_text("utf-8")
  assert "Where phrases look" not in page
  assert not list((run[0] / "report").glob("looks*"))
