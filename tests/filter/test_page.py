"""The page of a filter: what it says is what the manifest says."""

import re

import numpy as np
import pytest

from tests.filter import place
from tpr_jax.data import kept
from tpr_jax.filter import cut, page, settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A filter of rendered people, of whose captions some are others'."""
  place.use(monkeypatch, place.Scorer())
  c = place.shipped("rendered,keep_ratio=0.75")
  c.data.options.update(identities=10, views=2, pair_noise=0.4)
  c.pool.size, c.scorer.place = 20, "x"
  place.filtered(settings.read(c.lock()), tmp_path / "out")
  return tmp_path / "out"


def test_it_stands_alone_and_shows_every_kind(folder):
  text = page.write(folder).read_text(encoding="utf-8")
  assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:|//|\.)", text)
  assert "prefers-color-scheme: dark" in text and "{{" not in text
  assert text.count("<source srcset") == 3  # each figure for dark pages, too
  for title in ("Drawn at random", "the last that are kept", "first that are dropped"):
    assert title in text
  for title in ("Best: the fewest", "Worst: the most"):
    assert title in text
  assert "30 of 40 pairs (75.00 %)" in text
  assert text.count("truth: ") == text.count('<article class="pair">') > 40
  assert "data:image/jpeg;base64," in text


def test_precision_and_recall_are_those_of_slow_counting(folder):
  _, lines = place.manifest(folder)
  data, why = page._data(folder, kept.header(folder))
  wrong = page.wrong_pairs(data)
  assert not why and 4 < wrong.sum() < 30
  c = np.array([line["c"] for line in lines])
  s0 = np.array([line["s0"] for line in lines], np.float32)
  scored = cut.Scored(s0, c, np.zeros(40, np.int64))
  for row in page.rows(scored, wrong):
    ratio = float(row[0].removesuffix(" %")) / 100
    keep = round(ratio * 40)
    ranked = sorted(range(40), key=lambda i: (c[i], -s0[i], i))
    plain = sorted(range(40), key=lambda i: (-s0[i], i))
    for order, cells in ((ranked, row[3:5]), (plain, row[5:7])):
      dropped = order[keep:]
      hits = sum(wrong[i] for i in dropped)
      found = [100 * hits / max(len(dropped), 1), 100 * hits / wrong.sum()]
      np.testing.assert_allclose([float(cell) for cell in cells], found, atol=0.051)
    assert row[1] == str(keep) and int(row[2]) == c[ranked[keep - 1]] + 1
    assert float(row[8]) == pytest.approx(100 * (1 - ratio), abs=0.06)


def test_without_the_data_it_says_why_and_keeps_the_figures(folder):
  (folder / "config.json").unlink()
  text = page.write(folder).read_text(encoding="utf-8")
  assert "No pictures: config.json" in text and "<article" not in text
  assert text.count("<source srcset") == 2
