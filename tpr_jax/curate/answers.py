"""Every answer that a model gave, in an append-only file; nothing is asked twice."""

import dataclasses
import json
import os
import pathlib
import time

from tpr_jax.curate import prompts
from tpr_jax.curate.problems import CurateError
from tpr_jax.curate.requests import Request


@dataclasses.dataclass(frozen=True)
class Answer:
  """What came back.

  Attributes:
    text: as the model wrote it.
    finish: why it ended: "stop", "length" (cut off), ...; "" where nobody said.
    model: the model that the server named, which may say more than was asked for.
    seconds: from the question to the answer, without the waits between tries.
    attempts: how often it was asked.
  """

  text: str
  finish: str = ""
  model: str = ""
  seconds: float = 0.0
  attempts: int = 1


class Answers:
  """The file `answers.jsonl`: a line for each answer, written through to the disk.

  A process that was killed may leave half a line at the end; it is cut off.

  Raises:
    CurateError: the file was damaged by something else.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.found: dict[str, Answer] = {}
    if path.exists():
      self._read()

  def _read(self) -> None:
    data = self.path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
      os.truncate(self.path, whole)
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
      try:
        entry = json.loads(line)
        fields = dataclasses.fields(Answer)
        answer = Answer(**{f.name: entry["answer"][f.name] for f in fields})
        self.found.setdefault(entry["key"], answer)
      except (ValueError, KeyError, TypeError) as error:
        raise CurateError(
          f"{self.path}, line {number} is no answer ({type(error).__name__}: {error})."
          " The file is only ever appended to: restore it, or delete this line, and"
          " its question will be asked again"
        ) from error

  def add(self, request: Request, answer: Answer) -> None:
    """Keeps one answer, with all that was asked; it is on the disk on return."""
    entry = dict(
      key=request.key,
      time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
      rewriter=request.rewriter,
      model=request.model,
      style=request.style,
      sampling=dict(request.sampling),
      prompt_version=prompts.VERSION,
      messages=list(request.messages),
      caption=request.caption,
      answer=dataclasses.asdict(answer),
    )
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    with self.path.open("ab") as file:
      file.write(line.encode())
      file.flush()
      os.fsync(file.fileno())
    self.found[request.key] = answer
