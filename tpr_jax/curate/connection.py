"""One POST over HTTP that always comes to an end: the whole exchange has a deadline.

A socket's own timeout is for each read, so a server that sends a byte now and then
holds a client forever; here a timer cuts the connection. Redirections are answers, not
followed: the key would travel along. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any

_MOST = 8_000_000  # bytes of an answer; texts are far smaller


class Unreachable(Exception):
  """No complete answer came. `hopeless`: trying again cannot help."""

  def __init__(self, message: str, *, hopeless: bool = False):
    super().__init__(message)
    self.hopeless = hopeless


@dataclasses.dataclass(frozen=True)
class Response:
  """Status line, headers and body."""

  status: int
  headers: Message
  body: bytes


def post(
  url: str, content: Any, headers: Mapping[str, str], timeout: float
) -> Response:
  """Sends `content` as JSON; returns any complete response, errors included.

  Args:
    timeout: seconds for the exchange, once the connection is there; connecting has as
      many again.

  Raises:
    Unreachable: no connection, or no complete answer in time.
  """
  parts = urllib.parse.urlsplit(url)
  place = f"{parts.scheme}://{parts.netloc}"
  cut = threading.Event()
  try:
    link, target, extra = _link(parts, timeout)
    with contextlib.closing(link):
      link.connect()
      with _deadline(link.sock, timeout, cut):
        body = json.dumps(content).encode()
        link.request("POST", target, body, {**headers, **extra})
        answer = link.getresponse()
        data = answer.read(_MOST + 1)
  except ssl.SSLCertVerificationError as error:
    reason = error.verify_message
    raise Unreachable(
      f"{place}: its certificate is not accepted: {reason}", hopeless=True
    ) from error
  except (OSError, http.client.HTTPException, ValueError) as error:
    late = cut.is_set() or isinstance(error, TimeoutError)
    why = f"no answer within {timeout:g} s" if late else _reason(error)
    raise Unreachable(f"{place}: {why}") from error
  if cut.is_set():
    raise Unreachable(f"{place}: no complete answer within {timeout:g} s")
  if len(data) > _MOST:
    raise Unreachable(f"{place}: the answer is longer than {_MOST:,} bytes")
  return Response(answer.status, answer.headers, data)


@contextlib.contextmanager
def _deadline(sock, seconds, cut):
  def end():
    cut.set()
    with contextlib.suppress(OSError):  # it has ended by itself meanwhile
      # Of the plain socket: an SSL one would take its own state from under the reader.
      socket.socket.shutdown(sock, socket.SHUT_RDWR)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _reason(error):
  text = getattr(error, "strerror", None) or str(error)
  return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _link(parts, timeout):
  """(unconnected link, target of the request line, headers for a proxy)."""
  secure = parts.scheme == "https"
  kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
  target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
  proxy = urllib.request.getproxies().get(parts.scheme)
  if not proxy or urllib.request.proxy_bypass(parts.netloc):
    return kind(parts.hostname, parts.port, timeout=timeout), target, {}
  through = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
  link = kind(through.hostname, through.port or 80, timeout=timeout)
  headers = _proxy_key(through)
  if not secure:
    return link, urllib.parse.urlunsplit((*parts[:4], "")), headers
  link.set_tunnel(parts.hostname, parts.port or 443, headers)
  return link, target, {}


def _proxy_key(through):
  if not through.username:
    return {}
  user, password = map(urllib.parse.unquote, (through.username, through.password or ""))
  pair = base64.b64encode(f"{user}:{password}".encode()).decode()
  return {"Proxy-Authorization": f"Basic {pair}"}
