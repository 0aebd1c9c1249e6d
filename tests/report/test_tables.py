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
