"""`--mode=serve`: opens the index, loads its model, and listens."""

import dataclasses
import os
import socket
import ssl
import sys

from tpr_jax.search.index import Index
from tpr_jax.search.store import INSTALL
from tpr_jax.serve import limits
from tpr_jax.serve.audit import Audit
from tpr_jax.serve.problems import ServeError
from tpr_jax.serve.settings import Serving

_WAITING = 128  # connections that the system holds until the server has begun


def serve(asked: Serving) -> int:
  """Until a signal ends it -> exit status.

  Raises:
    ServeError: it cannot listen, or the extra is missing.
    SearchError: the index or its model cannot be loaded.
  """
  server = make(asked, Index.open(asked.index, model=asked.model))
  with listen(asked) as own:
    own.listen(_WAITING)  # before the address is told: who comes at once, waits
    _tell(asked, own.getsockname()[1])
    try:
      server.run(sockets=[own])
    except KeyboardInterrupt:
      print("Stopped.")
  return 0


def _tell(asked: Serving, port: int) -> None:
  address = dataclasses.replace(asked, port=port).address
  print(f"Serving {asked.index} at {address} (stop it with Ctrl-C)")
  if asked.made:
    print(f"Token: {asked.made}")
  if asked.tokens and not asked.tls:
    print(
      "Tokens and pictures travel unencrypted: give --tls_cert and --tls_key, or put a"
      " proxy with TLS before it, unless the network is your own.",
      file=sys.stderr,
    )
  if asked.audit:
    print(f"Audit: {asked.audit}")
  sys.stdout.flush()


def make(asked: Serving, index: Index):
  """A uvicorn.Server of an index. Raises as `serve`."""
  try:
    import starlette
    import uvicorn
  except ImportError as error:
    raise ServeError(
      f"--mode=serve needs starlette and uvicorn, which are not installed: {INSTALL}"
      f" ({error})"
    ) from error
  del starlette
  from tpr_jax.serve import app, protocol, security
  from tpr_jax.serve.engine import Engine

  audit = Audit(asked.audit)
  rules = security.Rules(asked.hosts, asked.tokens)
  site = app.Site(Engine(index), rules, audit, asked.audit is not None)
  certificate, key = map(os.fspath, asked.tls) if asked.tls else (None, None)
  config = uvicorn.Config(
    site.app(),
    http=protocol.Patient,
    ws="none",
    loop="asyncio",
    lifespan="on",
    access_log=False,
    log_level="error",
    proxy_headers=False,  # anybody can write them
    server_header=False,
    h11_max_incomplete_event_size=limits.HEAD_BYTES,
    timeout_graceful_shutdown=5,
    ssl_certfile=certificate,
    ssl_keyfile=key,
  )
  try:
    config.load()
  except (OSError, ssl.SSLError) as error:
    raise ServeError(f"--tls_cert and --tls_key cannot be used: {error}") from error
  return uvicorn.Server(config)


def listen(asked: Serving) -> socket.socket:
  """Raises ServeError: the address is not of this machine, or is taken."""
  family = socket.AF_INET6 if ":" in asked.host else socket.AF_INET
  found = socket.socket(family, socket.SOCK_STREAM)
  found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    found.bind((asked.host, asked.port))
  except OSError as error:
    found.close()
    raise ServeError(
      f"{asked.host}, port {asked.port}, cannot be listened on: {error}; --host and"
      " --port name others"
    ) from error
  return found
