import dataclasses

import numpy as np
import pytest

from tests.report import run_folder
from tpr_jax.report import files, queries, sheet


def ranking(finished, name="fine"):
  return files.read(finished[0]).rankings[name]


def test_random_queries_depend_on_the_seed_only(finished):
  found = ranking(finished)
  a = queries.choose_random(found, 12, 0)
  assert len(set(a.tolist())) == 12 and a.tolist() == sorted(a.tolist())
  assert a.tolist() == queries.choose_random(found, 12, 0).tolist()
  assert a.tolist() != queries.choose_random(found, 12, 1).tolist()
  # The scores have no say: the same queries from another model.
  assert (
    a.tolist() == queries.choose_random(ranking(finished, "coarse"), 12, 0).tolist()
  )
  assert len(queries.choose_random(found, 1000, 0)) == 48


def test_extremes_are_the_best_and_the_worst(finished):
  found = ranking(finished, "coarse")
  found = dataclasses.replace(found, first_rank=found.first_rank.copy())
  found.first_rank[5] = 0  # no match: neither best nor worst
  best, worst = queries.choose_extremes(found, 6)
  others = np.setdiff1d(np.flatnonzero(found.first_rank), [*best, *worst])
  assert found.ap[best].min() >= found.ap[others].max()
  assert found.first_rank[worst].min() >= found.first_rank[others].max()
  assert 5 not in best and 5 not in worst and not set(best) & set(worst)


def test_extremes_show_a_picture_once(finished):
  found = ranking(finished)
  twice = dataclasses.replace(found, query_record=np.full(48, 3, np.int32))
  best, worst = queries.choose_extremes(twice, 6)
  assert len(best) == 1 and len(worst) == 1


def test_hits_are_right_where_identities_are_equal(finished):
  found, data = ranking(finished), finished[1]["fine"]
  pictures = queries.Pictures(data)
  rows = queries.gather(np.arange(48), found, data, pictures)
  for i, row in enumerate(rows):
    person = data.records[i].identity
    for hit in row.hits:
      other = data.records[found.top[i, hit.rank - 1]]
      assert hit.right == (other.identity == person)
      assert hit.twin == (person < 16 and other.identity == person ^ 1)
      assert hit.picture.name == other.image
    right = [hit.rank for hit in row.hits if hit.right]
    assert row.first_rank == right[0] if right else row.first_rank > 10
    assert row.text == data.records[i].captions[0]
    assert row.source.name == data.records[i].image
  assert any(hit.twin for row in rows for hit in row.hits)


def test_unreadable_picture_is_a_gap_and_is_listed(finished):
  found = ranking(finished)
  data = run_folder.dataset(broken=["test/000000/0"])
  pictures = queries.Pictures(data)
  row = queries.gather(np.array([0]), found, data, pictures)[0]
  assert row.source.uri is None and row.source.name == "test/000000/0"
  assert list(pictures.broken) == ["test/000000/0"]
  assert "truncated" in pictures.broken["test/000000/0"]
  picture = sheet.draw([row], "")  # drawn all the same
  assert picture.height > 100


def test_places_beyond_a_small_gallery_are_left_out(finished):
  found = ranking(finished)
  top = found.top.copy()
  top[:, 3:] = -1
  found = dataclasses.replace(found, top=top)
  data = finished[1]["fine"]
  row = queries.gather(np.array([7]), found, data, queries.Pictures(data))[0]
  assert [hit.rank for hit in row.hits] == [1, 2, 3]


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("top", 48, r"fine\.npz names record 48, but blocks/test has 48 records"),
    ("query_record", 60, r"names record 60"),
    ("query_caption", 1, r"names caption 1 of test/000000/0, which has 1"),
  ],
)
def test_ranking_of_other_data_is_an_error(finished, field, value, message):
  found = ranking(finished)
  changed = np.full_like(getattr(found, field), value)
  found = dataclasses.replace(found, **{field: changed})
  path = finished[0] / "rankings" / "fine.npz"
  with pytest.raises(files.ReportError, match=message):
    queries.check(found, finished[1]["fine"], path)


def test_frames_of_the_sheet_have_the_right_colour(finished):
  found, data = ranking(finished), finished[1]["fine"]
  rows = queries.gather(np.array([4]), found, data, queries.Pictures(data))
  assert {hit.right for hit in rows[0].hits} == {True, False}
  picture = sheet.draw(rows, "")
  colours = {sheet.RIGHT: True, sheet.WRONG: False}
  known = {tuple(bytes.fromhex(code[1:])): right for code, right in colours.items()}
  line = [picture.getpixel((x, 13)) for x in range(picture.width)]
  frames = [known[a] for a, b in zip(line[1:], line, strict=False)
            if a in known and b not in known]  # fmt: skip
  assert frames == [hit.right for hit in rows[0].hits]


def test_lines_of_the_sheet_fit_and_lose_nothing():
  font = sheet.typeface(13)
  text = "A person in a black jacket " * 6 + "W" * 90 + " and trousers"
  lines = sheet.wrap(text, font, 200)
  assert all(font.getlength(line) <= 200 for line in lines) and "" not in lines
  assert "".join(lines).replace(" ", "") == text.replace(" ", "")
  assert sheet.wrap("", font, 200) == []
