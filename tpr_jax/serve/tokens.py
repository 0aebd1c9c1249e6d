"""Who may ask: tokens out of a file, and the sessions of browsers that showed one.

Only digests are kept and compared, all of them each time, in constant time: neither
the length of a token nor which one is nearly right can be told from the time it takes.
"""

import dataclasses
import hashlib
import hmac
import pathlib
import re
import secrets
import time
from collections.abc import Callable, Sequence

from tpr_jax.serve import limits
from tpr_jax.serve.kept import Kept
from tpr_jax.serve.problems import ServeError

_LINE = re.compile(r"(?:([\w.@-]{1,64})\s+)?([\x21-\x7e]+)")
_HOW = "for example by: openssl rand -hex 32 > FILE; chmod 600 FILE"


@dataclasses.dataclass(frozen=True)
class Token:
  """name: of whoever has it, for the audit. digest: SHA-256."""

  name: str
  digest: bytes


def make() -> str:
  return secrets.token_urlsafe(32)


def named(name: str, token: str) -> Token:
  return Token(name, _digest(token))


def read(file: pathlib.Path) -> tuple[Token, ...]:
  """A line each: a token, or a name and a token. Empty lines and # are left out.

  Raises:
    ServeError: it cannot be read, others may read it, it holds none, one is short, or
      a name or a token is there twice.
  """
  try:
    mode, text = file.stat().st_mode, file.read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise ServeError(f"--token_file={file} cannot be read: {error}") from error
  if mode & 0o077:
    raise ServeError(
      f"--token_file={file} may be read by others ({mode & 0o777:o}): chmod 600 {file}"
    )
  found: list[Token] = []
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip() or line.lstrip().startswith("#"):
      continue
    where = f"--token_file={file}, line {number}"
    match = _LINE.fullmatch(line.strip())
    if match is None:
      raise ServeError(f"{where}: expected TOKEN, or NAME TOKEN; {_HOW}")
    name, token = match[1] or "token", match[2]
    if len(token) < limits.TOKEN:
      raise ServeError(
        f"{where}: a token of {len(token)} characters can be guessed; expected"
        f" {limits.TOKEN} at least, {_HOW}"
      )
    one = named(name, token)
    if any(name == each.name or one.digest == each.digest for each in found):
      raise ServeError(f"{where}: {name}, or its token, is there already")
    found.append(one)
  if not found:
    raise ServeError(f"--token_file={file} holds no token; {_HOW}")
  return tuple(found)


def name_of(token: str, known: Sequence[Token]) -> str | None:
  """Whose token it is; None: nobody's."""
  digest, name = _digest(token), None
  for each in known:
    if hmac.compare_digest(digest, each.digest):
      name = each.name
  return name


class Sessions:
  """Browsers that have shown a token; forgotten when the server ends.

  Args:
    clock: seconds, never backwards.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    # digest -> name; the one that was not used for longest makes room.
    self._known: Kept[str] = Kept(limits.SESSIONS, limits.SESSION_SECONDS, clock)

  def begin(self, name: str) -> str:
    """-> the secret of a new session."""
    secret = secrets.token_urlsafe(32)
    self._known.put(_digest(secret).hex(), name)
    return secret

  def name_of(self, secret: str) -> str | None:
    """Whose session it is; None: nobody's, or over. Found by its digest."""
    return self._known.get(_digest(secret).hex())

  def end(self, secret: str) -> None:
    self._known.drop(_digest(secret).hex())


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
