"""What is asked for on the command line: who may reach the server, and by what name."""

import dataclasses

import pytest

from tpr_jax.serve import settings
from tpr_jax.serve.problems import ServeError

GIVEN = dict(
  index="index",
  model=None,
  host="127.0.0.1",
  port=8000,
  allowed_hosts=[],
  token_file=None,
  audit=None,
  tls_cert=None,
  tls_key=None,
)


def serving(**given):
  return settings.serving(**{**GIVEN, **given})


def test_on_this_machine_no_token_is_needed():
  for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"):
    found = serving(host=host)
    assert found.tokens == () and found.made is None
    assert found.hosts >= {"localhost", "127.0.0.1", "::1"}
    assert "example.org" not in found.hosts
  assert serving(host="[::1]").address == "http://[::1]:8000"


@pytest.mark.parametrize(
  "given",
  [
    dict(host="0.0.0.0"),
    dict(host="192.168.1.7"),
    dict(host="::"),
    dict(host="machine.example.org"),
    # Something in front of it brings others here.
    dict(allowed_hosts=["search.example.org"]),
  ],
)
def test_beyond_it_a_token_is_made_where_none_is_given(given):
  found, again = serving(**given), serving(**given)
  assert len(found.tokens) == 1 and len(found.made) >= 32
  assert found.made != again.made
  assert found.made not in repr(dataclasses.replace(found, made=None))


def test_names_of_the_server():
  found = serving(host="0.0.0.0", allowed_hosts=["Search.Example.org", "[FE80::1]"])
  assert {"search.example.org", "fe80::1", "localhost"} <= found.hosts
  assert serving(host="0.0.0.0").hosts is None  # the token guards it


def test_tokens_of_a_file_are_asked_for_here_too(tmp_path):
  file = tmp_path / "tokens"
  file.write_text("anna " + "a" * 40)
  file.chmod(0o600)
  found = serving(token_file=str(file))
  assert [token.name for token in found.tokens] == ["anna"] and found.made is None


@pytest.mark.parametrize(
  ("given", "part"),
  [
    (dict(index=None), "--index=DIR"),
    (dict(port=70_000), "--port=70000"),
    (dict(host=" "), "--host is empty"),
    (dict(allowed_hosts=["http://a.org"]), "--allowed_hosts=http://a.org"),
    (dict(allowed_hosts=["a.org:80"]), "without scheme and port"),
    (dict(token_file="/nowhere/token"), "cannot be read"),
    (dict(audit="/nowhere/audit"), "no folder /nowhere"),
    (dict(tls_cert=__file__), "belong together"),
    (dict(tls_cert=__file__, tls_key="/nowhere.pem"), "no such file"),
  ],
)
def test_what_cannot_be_served_is_told_before(given, part):
  with pytest.raises(ServeError) as told:
    serving(**given)
  assert part in str(told.value)
