"""What stands before every request: limits, hosts, origins, headers and the log."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tpr_jax.serve import limits, problems, security
from tpr_jax.serve.problems import Refused

_QUIET = ("/assets/", "/health")  # and thumbnails: not logged where all is well


def log(line: str) -> None:
  now = datetime.datetime.now().isoformat(" ", "seconds")
  print(f"{now} {line}", file=sys.stderr, flush=True)


def problem(refused: Refused) -> Response:
  return Response(
    refused.body(), refused.status, refused.headers, media_type=problems.MEDIA_TYPE
  )


class Guard:
  """An ASGI application around another.

  Args:
    app: raises Refused, or answers.
    rules: of hosts and origins.
    say: takes a line of the log. It names paths, never what was searched for.
  """

  def __init__(
    self, app: ASGIApp, rules: security.Rules, say: Callable[[str], None] = log
  ):
    self._app, self._rules, self._say = app, rules, say
    self._inside = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    began, status = time.perf_counter(), 499  # 499: nobody waits any more

    async def sending(message: Message) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
        headers = MutableHeaders(scope=message)
        for name, value in security.HEADERS.items():
          headers.setdefault(name, value)
      await send(message)

    self._inside += 1
    try:
      await self._answer(scope, receive, sending)
    finally:
      self._inside -= 1
      self._told(scope, status, 1e3 * (time.perf_counter() - began))

  async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
    try:
      if self._inside > limits.REQUESTS:
        raise problems.busy()
      _check_head(scope)
      self._rules.check_host(scope["headers"])
      if scope["method"] not in ("GET", "HEAD"):
        self._rules.check_origin(Headers(scope=scope))
      with contextlib.suppress(ClientDisconnect):
        await self._app(scope, receive, send)
    except Refused as refused:
      await problem(refused)(scope, receive, send)

  def _told(self, scope: Scope, status: int, ms: float) -> None:
    path: str = scope["path"]
    quiet = path.startswith(_QUIET) or path.endswith("/thumbnail")
    if status >= 400 or not quiet:
      # As ASCII, quoted: a path may hold anything, also the end of a line.
      address = (scope.get("client") or ("-",))[0]
      shown = ascii(path[:120])[1:-1]
      self._say(f"{address} {scope['method'][:10]} {shown} {status} {ms:.0f} ms")


def _check_head(scope: Scope) -> None:
  """Raises Refused (431). (uvicorn's own limit is of a head that comes in parts.)"""
  size = len(scope["raw_path"]) + len(scope["query_string"])
  size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
  if size > limits.HEAD_BYTES:
    raise Refused(
      431, f"The address and headers have more than {limits.HEAD_BYTES:,} bytes."
    )


async def full(scope: Scope, receive: Receive, send: Send) -> None:
  """An ASGI application that has no place for anybody."""
  refused = problems.busy()
  headers = {**security.HEADERS, **refused.headers, "Connection": "close"}
  answer: Any = Response(
    refused.body(), refused.status, headers, media_type=problems.MEDIA_TYPE
  )
  await answer(scope, receive, send)
