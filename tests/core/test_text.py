"""Aligned tables, natural order, cells of Markdown, the command."""

import sys

from tpr_jax.core import text


def test_names_stand_left_and_numbers_right():
  lines = [["", "R1", "note"], ["a row", "5.00", "x"], ["b", "10.00", "long"]]
  assert text.aligned(lines) == [
    "          R1  note",
    "------------------",
    "a row   5.00     x",
    "b      10.00  long",
  ]
  assert text.aligned(lines, left=3)[2] == "a row  5.00   x"


def test_numbers_in_names_are_sorted_by_their_size():
  names = ["seed10", "b", "seed2", "seed2b", "3"]
  assert sorted(names, key=text.natural) == ["3", "b", "seed2", "seed2b", "seed10"]


def test_a_cell_cannot_end_its_column():
  assert text.escaped(" a|b ") == "a\\|b"


def test_the_command_can_be_typed_again(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["main.py", "--config=a.py", "--config.x=(1, 2)"])
  assert text.command().endswith("-m tpr_jax.main --config=a.py '--config.x=(1, 2)'")
