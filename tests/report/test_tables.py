import pytest

from tpr_jax.report import tables


def numbers(r1, **more):
  return dict(
    R1=r1, R5=80.0, R10=100.0, mAP=50.126, mINP=40.0, mSD=30.0, queries=12345,
    gallery=678, unmatched=0, **more,
  )  # fmt: skip


def test_table_is_aligned_and_complete():
  results = dict(
    evals=dict(
      fine=dict(
        t2i=numbers(53.25, chance=0.5), groups={"near twins": numbers(1.5, chance=0.5)}
      ),
      coarse=dict(t2i=numbers(20.0, chance=0.5), i2t=numbers(21.0), groups=None),
    )
  )
  text = tables.results_table(results)
  head, rule, *lines = text.splitlines()
  assert head.split() == [*tables.METRICS, "chance", "queries", "gallery"]
  assert set(rule) == {"-"}
  assert [line[:23].strip() for line in lines] == [
    "fine", "near twins", "coarse", "coarse, image to text",
  ]  # fmt: skip
  assert lines[1].startswith("  near twins")
  assert lines[0].split()[1:] == [
    "53.25", "80.00", "100.00", "50.13", "40.00", "30.00", "0.50", "12,345", "678",
  ]  # fmt: skip
  assert lines[3].split()[-3] == "–"  # a chance level that is not known
  assert len({len(line) for line in (head, rule, *lines)}) == 1


def interval(low, high, **more):
  ends = {} if low is None else {name: [low, high] for name in tables.METRICS}
  about = dict(level=0.9, resamples=500, seed=0, identities=7, scores=ends)
  return dict(ci={**about, **more})


def test_intervals_stand_in_a_table_of_their_own():
  results = dict(
    evals=dict(
      fine=dict(
        t2i=numbers(53.25, **interval(50.04, 56.06)),
        groups={"one": numbers(1.5, **interval(None, None, identities=1))},
        i2t=numbers(21.0, **interval(2.0, 100.0)),
      )
    )
  )
  text = tables.results_table(results)
  values, spans = text.split("\n\n")
  head, rule, *lines = spans.splitlines()
  assert head.split() == ["90", "%", "interval", *tables.METRICS]
  assert lines[0].split() == ["fine", *["50.0–56.1"] * 6]
  assert lines[1].startswith("  one ") and lines[1].split() == ["one", *["–"] * 6]
  assert lines[2].split()[-1] == "2.0–100.0"
  assert len({len(line) for line in (head, rule, *lines[:3])}) == 1
  assert lines[3].startswith("Intervals (90 %): ") and "500 times (seed 0)" in lines[3]
  assert lines[4] == "fine, one: all queries are of one identity: no interval."
  assert "50.0" not in values and len(lines) == 5


def test_columns_that_no_row_has_are_left_out():
  text = tables.results_table(dict(evals=dict(test=dict(t2i=numbers(1.0)))))
  assert "chance" not in text and "unmatched" not in text


def test_what_the_means_leave_out_is_said():
  t2i = dict(numbers(1.0), unmatched=3)
  scores = dict(t2i=t2i, broken_images=2, note="poor, few photographs")
  text = tables.results_table(dict(evals=dict(test=scores)))
  assert "unmatched" in text.splitlines()[0]
  assert "test: 3 of 12,345 queries have no match in the gallery" in text
  assert "test: 2 images could not be read" in text
  assert "test: poor, few photographs" in text


@pytest.mark.parametrize("results", [{}, {"evals": {}}, {"evals": {"a": {}}}])
def test_results_without_numbers_are_an_error(results):
  with pytest.raises(ValueError, match="results"):
    tables.results_table(results)
