"""What is asked for on the command line, checked before JAX is imported."""

import dataclasses
import ipaddress
import pathlib
import re

from tpr_jax.serve import tokens
from tpr_jax.serve.problems import ServeError
from tpr_jax.serve.tokens import Token

HOST, PORT = "127.0.0.1", 8000
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Serving:
  """--mode=serve.

  Attributes:
    model: where the index's model is now; "": where it was.
    hosts: names and addresses that requests may be for; None: any.
    tokens: who may ask; empty: everybody who reaches the server.
    made: the token that was made here, to be told, or None.
    audit: a file that says who searched for what, or None.
    tls: (certificate, key), or None.
  """

  index: pathlib.Path
  model: str = ""
  host: str = HOST
  port: int = PORT
  hosts: frozenset[str] | None = frozenset()
  tokens: tuple[Token, ...] = ()
  made: str | None = None
  audit: pathlib.Path | None = None
  tls: tuple[pathlib.Path, pathlib.Path] | None = None

  @property
  def address(self) -> str:
    """For a browser."""
    scheme = "https" if self.tls else "http"
    host = f"[{self.host}]" if ":" in self.host else self.host
    return f"{scheme}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
  if host == "localhost":
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def serving(
  *,
  index: str | None,
  model: str | None,
  host: str,
  port: int,
  allowed_hosts: list[str],
  token_file: str | None,
  audit: str | None,
  tls_cert: str | None,
  tls_key: str | None,
) -> Serving:
  """Raises ServeError: something is missing, or has a value that it cannot have."""
  if not index:
    raise ServeError("--mode=serve needs --index=DIR, written by --mode=index")
  if not 0 <= port <= 65_535:
    raise ServeError(f"--port={port}: expected 1 to 65535, or 0 for any that is free")
  host = host.strip().strip("[]").lower()
  if not host:
    raise ServeError("--host is empty: expected an address, for example 127.0.0.1")
  names = frozenset(map(_host_name, allowed_hosts))
  local = is_loopback(host)
  # Names beside those of this machine: others come here through something in front.
  private = local and all(map(is_loopback, names))
  given = tokens.read(_path(token_file)) if token_file else ()
  made = None if given or private else tokens.make()
  if made:
    given = (tokens.named("token", made),)
  hosts = names | {"localhost", "127.0.0.1", "::1", host} if local or names else None
  if bool(tls_cert) != bool(tls_key):
    raise ServeError("--tls_cert and --tls_key belong together: PEM files")
  tls = None
  if tls_cert and tls_key:
    tls = (_file("tls_cert", tls_cert), _file("tls_key", tls_key))
  log = _path(audit) if audit else None
  if log is not None and not log.absolute().parent.is_dir():
    raise ServeError(f"--audit={audit}: there is no folder {log.absolute().parent}")
  return Serving(_path(index), model or "", host, port, hosts, given, made, log, tls)


def _host_name(value: str) -> str:
  name = value.strip().strip("[]").lower()
  try:
    return str(ipaddress.ip_address(name))
  except ValueError:
    if _NAME.fullmatch(name):
      return name
  raise ServeError(
    f"--allowed_hosts={value}: expected names or addresses as browsers write them,"
    " without scheme and port: search.example.org"
  )


def _file(flag: str, value: str) -> pathlib.Path:
  found = _path(value)
  if not found.is_file():
    raise ServeError(f"--{flag}={value}: there is no such file")
  return found


def _path(value: str) -> pathlib.Path:
  return pathlib.Path(value).expanduser()
