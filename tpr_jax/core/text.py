"""Text for people and from them: aligned tables, numbers in names, the command."""

import pathlib
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
  """Lines of cells, the first of them the head -> lines of text, a rule after the head.

  Args:
    left: so many first columns stand at the left, the others at the right.
  """
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  text = []
  for line in lines:
    cells = [
      cell.ljust(width) if place < left else cell.rjust(width)
      for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    text.append("  ".join(cells).rstrip())
  return [text[0], "-" * max(map(len, text)), *text[1:]]


def natural(name: str) -> list[tuple[int, str]]:
  """A key to sort names by: numbers within them by their size, seed2 before seed10."""
  parts = re.split(r"(\d+)", name)
  return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def command() -> str:
  """How this process was asked for, as it can be typed again."""
  words = [pathlib.Path(sys.executable).name, "-m", "tpr_jax.main", *sys.argv[1:]]
  return shlex.join(words)


def escaped(cell: Any) -> str:
  """A cell of a Markdown table."""
  return str(cell).strip().replace("|", "\\|")
