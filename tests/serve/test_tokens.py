"""Token files, and the sessions of browsers."""

import pytest

from tpr_jax.serve import limits, tokens
from tpr_jax.serve.problems import ServeError

A, B = "a" * 32, "b" * 32


def file(tmp_path, text, mode=0o600):
  path = tmp_path / "tokens"
  path.write_text(text)
  path.chmod(mode)
  return path


def test_a_file_names_who_has_which_token(tmp_path):
  found = tokens.read(file(tmp_path, f"# who may ask\nanna {A}\n\n  ben@x   {B}\n"))
  assert tokens.name_of(A, found) == "anna" and tokens.name_of(B, found) == "ben@x"
  for wrong in ("", A[:-1], A + "a", A.upper(), "anna", f"anna {A}", "\ud800", "ä"):
    assert tokens.name_of(wrong, found) is None
  assert A not in repr(found)
  (one,) = tokens.read(file(tmp_path, f"{A}\n"))
  assert one.name == "token"


@pytest.mark.parametrize(
  ("text", "mode", "part"),
  [
    ("", 0o600, "holds no token"),
    ("short", 0o600, "5 characters can be guessed"),
    (f"a {A}\nb {A}", 0o600, "line 2: b, or its token, is there already"),
    (f"a {A}\na {B}", 0o600, "is there already"),
    (f"a b {A}", 0o600, "expected TOKEN, or NAME TOKEN"),
    (A, 0o644, "may be read by others (644)"),
  ],
)
def test_files_that_are_refused(tmp_path, text, mode, part):
  with pytest.raises(ServeError) as told:
    tokens.read(file(tmp_path, text, mode))
  assert part in str(told.value) and A not in str(told.value)


def test_sessions_end(monkeypatch):
  monkeypatch.setattr(limits, "SESSIONS", 2)
  now = [0.0]
  sessions = tokens.Sessions(lambda: now[0])
  first = sessions.begin("anna")
  assert sessions.name_of(first) == "anna"
  assert sessions.name_of(first[:-1]) is None and sessions.name_of("") is None
  now[0] = limits.SESSION_SECONDS - 1
  second, third = sessions.begin("ben"), sessions.begin("cleo")  # the oldest makes room
  assert sessions.name_of(first) is None and sessions.name_of(second) == "ben"
  sessions.end(second)
  assert sessions.name_of(second) is None
  now[0] += limits.SESSION_SECONDS
  assert sessions.name_of(third) is None
