"""A server on loopback in a thread of its own, and a client that holds it to its word.

Every answer that `Client` gets is compared with what /openapi.json says of its path:
status, media type, headers and every field.
"""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from typing import NamedTuple

import jsonschema

from tests.search import place
from tpr_jax.search.index import Index
from tpr_jax.serve import openapi, run, settings

TOKEN = "0123456789abcdef0123456789abcdef"


class Encoder(place.Encoder):
  """As place.Encoder; words without a colour have a row, too."""

  def encode_texts(self, texts):
    self._model.texts.append(list(texts))
    self._model.gate.wait(30)
    if any("unheard" in text for text in texts):
      raise ValueError("a word that breaks the model")
    plain = ["red" if not set(t.split()) & set(place.COLOURS) else t for t in texts]
    return super().encode_texts(plain)


class Model(place.Model):
  """texts: batches that were encoded; gate: cleared, it encodes none until set."""

  def __init__(self, **given):
    super().__init__(**given)
    self.texts, self.gate = [], threading.Event()
    self.gate.set()

  def load(self):
    self.loads += 1
    return Encoder(self)


@contextlib.contextmanager
def served(index, model=None, **given):
  """Serves an index -> port. given: of `settings.Serving`."""
  hosts = frozenset(("localhost", "127.0.0.1", "::1"))
  asked = settings.Serving(index, **{"port": 0, "hosts": hosts, **given})
  server = run.make(asked, Index(index, model or Model()))
  own = run.listen(asked)
  own.listen(128)  # from now on clients may come; they are answered once it runs
  thread = threading.Thread(target=server.run, kwargs=dict(sockets=[own]))
  thread.start()
  try:
    yield own.getsockname()[1]
  finally:
    server.should_exit = True
    thread.join(30)
    own.close()
    assert not thread.is_alive(), "the server did not end"


class Answer(NamedTuple):
  status: int
  headers: http.client.HTTPMessage
  body: bytes

  def json(self):
    return json.loads(self.body)

  @property
  def kind(self):
    return self.headers.get("Content-Type", "").partition(";")[0]


class Client:
  """Args: headers: sent with every request."""

  def __init__(self, port, headers=None, described=True, timeout=60):
    self.port, self._headers, self._timeout = port, headers or {}, timeout
    self._document = openapi.document(False) if described else None

  def ask(self, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", self.port, self._timeout)
    with contextlib.closing(connection):
      connection.request(method, path, body, {**self._headers, **(headers or {})})
      found = connection.getresponse()
      answer = Answer(found.status, found.headers, found.read())
    if self._document is not None:
      as_described(self._document, method, path, answer)
    return answer

  def get(self, path, **headers):
    return self.ask("GET", path, None, _named(headers))

  def post(self, path, value, **headers):
    given = {"Content-Type": "application/json", **_named(headers)}
    body = value if isinstance(value, bytes | str) else json.dumps(value)
    return self.ask("POST", path, body, given)

  def search(self, query="", **fields):
    """The answer of a search that must be answered."""
    if query:
      fields["query"] = query
    answer = self.post("/api/search", fields)
    assert answer.status == 200, answer
    return answer.json()

  def give(self, data, kind="image/png"):
    return self.ask("POST", "/api/pictures", data, {"Content-Type": kind})


def _named(headers):
  return {name.replace("_", "-"): value for name, value in headers.items()}


def paths(answer):
  return [hit["path"] for hit in answer["hits"]]


def as_described(document, method, path, answer):
  """Asserts that an answer of a described path is as the document says."""
  path = path.partition("?")[0]
  name = "get" if method == "HEAD" else method.lower()
  operation = _operation(document, name, path)
  if operation is None or method != method.upper():
    return
  assert str(answer.status) in operation["responses"], (method, path, answer)
  told = _followed(document, operation["responses"][str(answer.status)])
  for name in told.get("headers", {}):
    assert name in answer.headers, (name, path, answer)
  content = told.get("content", {})
  if method == "HEAD":
    assert answer.body == b""
    return
  assert (answer.kind in content) if content else not answer.body, (path, answer)
  if "schema" in content.get(answer.kind, {}):
    whole = {**content[answer.kind]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(answer.json())


def _operation(document, method, path):
  for pattern, operations in document["paths"].items():
    if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
      return operations.get(method)
  return None


def _followed(document, told):
  if "$ref" in told:
    return document["components"]["responses"][told["$ref"].rpartition("/")[2]]
  return told


def raw(port, data, *, timeout=60):
  """Sends bytes on a connection of their own -> all that comes back until its end."""
  with socket.create_connection(("127.0.0.1", port), timeout) as connection:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      connection.sendall(data)
    return received(connection)


def received(connection):
  parts = []
  with contextlib.suppress(ConnectionResetError):
    while part := connection.recv(1 << 16):
      parts.append(part)
  return b"".join(parts)


def until(true, seconds=60):
  """Returns when `true()` is; fails after long."""
  end = time.monotonic() + seconds
  while not true():
    assert time.monotonic() < end, "it did not happen"
    time.sleep(0.01)
