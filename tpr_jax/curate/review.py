"""Flagged answers and what a person decided: `review.jsonl`, a file that one edits.

One line for each flagged answer. Fill in `decision`: "accept", "reject", or "replace"
with the right text in `text` (a text alone means replace). What is left empty stays
out of the set. The program only ever appends.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping

from tpr_jax.curate.problems import CurateError
from tpr_jax.data import check_text

DECISIONS = ("accept", "reject", "replace")


@dataclasses.dataclass(frozen=True)
class Decision:
  """What a person said about one answer; decision "" is nothing yet."""

  decision: str
  text: str


@dataclasses.dataclass(frozen=True)
class Flagged:
  """An answer that waits for a person; the fields are those of its line."""

  key: str
  flags: Mapping[str, str]
  original: str
  answer: str
  style: str
  model: str
  image: str


class Review:
  """The file, read again on each run.

  Raises:
    CurateError: a line that cannot be understood, with its number.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.found: dict[str, Decision] = {}
    if not path.exists():
      return
    try:
      lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
      raise CurateError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
      if line.strip():
        key, decision = _read(f"{path}, line {number}", line)
        if key in self.found:
          raise CurateError(
            f"{path}, line {number}: the same key is there twice; keep one of the lines"
          )
        self.found[key] = decision

  def add(self, flagged: Iterable[Flagged]) -> int:
    """Appends the answers that have no line yet; returns how many."""
    new = [entry for entry in flagged if entry.key not in self.found]
    if not new:
      return 0
    before = self.path.read_bytes() if self.path.exists() else b""
    with self.path.open("ab") as file:
      # Editors do not always end the last line.
      file.write(b"\n" if before and not before.endswith(b"\n") else b"")
      for entry in new:
        line = dict(decision="", text="", **dataclasses.asdict(entry))
        file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        self.found[entry.key] = Decision("", "")
      file.flush()
      os.fsync(file.fileno())
    return len(new)


def _read(where, line):
  try:
    entry = json.loads(line)
    key, decision = entry["key"], entry.get("decision", "")
    text = entry.get("text", "")
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise CurateError(
      f"{where}: no JSON object with a key ({type(error).__name__}: {error});"
      " expected one object a line, as the program wrote it"
    ) from error
  if not all(isinstance(value, str) for value in (key, decision, text)):
    raise CurateError(f"{where}: key, decision and text have to be texts")
  text, decision = " ".join(text.split()), decision.strip().lower()
  decision = decision or ("replace" if text else "")
  if decision and decision not in DECISIONS:
    raise CurateError(
      f"{where}: decision {decision!r}, expected {', '.join(DECISIONS)} or nothing yet"
    )
  if decision == "replace" and not check_text.words(text):
    raise CurateError(f"{where}: decision 'replace' without the words, in 'text'")
  if decision in ("accept", "reject") and text:
    raise CurateError(f"{where}: a text is given, but decision is {decision!r}")
  return key, Decision(decision, text)
