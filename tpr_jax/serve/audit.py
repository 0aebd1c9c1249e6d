"""Who searched for what, and when: JSON Lines, one for each act.

A line is written before the answer is sent, and where it cannot be written there is no
answer: nothing is searched without a trace.
"""

import datetime
import json
import os
import pathlib
from typing import Any

from tpr_jax.serve.problems import Refused, ServeError


class Audit:
  """Appends to a file that only its owner may read; another program may move it away.

  Args:
    file: made where missing; None: nothing is written.

  Raises:
    ServeError: it cannot be written.
  """

  def __init__(self, file: pathlib.Path | None):
    self._file = file
    if file is not None:
      try:
        os.close(self._open())
      except OSError as error:
        raise ServeError(f"--audit={file} cannot be written: {error}") from error

  def write(self, act: str, who: str, address: str, **facts: Any) -> None:
    """Raises Refused (503): it could not be written."""
    if self._file is None:
      return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = dict(time=now, act=act, who=who, address=address)
    line |= {name: value for name, value in facts.items() if value is not None}
    data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8")
    try:
      file = self._open()  # each time: the file may have been moved away meanwhile
      try:
        written = os.write(file, data)  # one call: lines of others do not mix with it
      finally:
        os.close(file)
      if written != len(data):
        raise OSError(f"{written} of {len(data)} bytes were written")
    except OSError as error:
      print(f"error: --audit={self._file} cannot be written: {error}", flush=True)
      raise Refused(
        503,
        "The audit log cannot be written, so nothing is searched.",
        {"Retry-After": "30"},
      ) from error

  def _open(self) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(self._file, flags, 0o600)
