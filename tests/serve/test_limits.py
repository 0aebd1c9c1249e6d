"""Too large, too slow, too many: each has an end, and the server goes on."""

import io
import socket
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.serve import place
from tpr_jax.serve import limits

HEAD = (
  b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
RED = b'{"query": "red"}'


@pytest.fixture
def hasty(folder, monkeypatch):
  """A client of a server without patience."""
  for name in ("HEAD_SECONDS", "BODY_SECONDS", "ANSWER_SECONDS"):
    monkeypatch.setattr(limits, name, 0.3)
  with place.served(folder / "index") as port:
    yield place.Client(port)


def test_bodies_that_are_too_large(client):
  large = b" " * (limits.JSON_BYTES + 1)
  assert client.post("/api/search", large).status == 413
  assert client.give(bytes(limits.PICTURE_BYTES + 1)).status == 413
  # Announced, and never sent: it is not waited for.
  told = HEAD + b"Content-Length: 99999999999\r\n\r\n"
  assert place.raw(client.port, told).startswith(b"HTTP/1.1 413")
  # Not announced: cut off at the limit.
  chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
  chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17
  assert place.raw(client.port, chunked).startswith(b"HTTP/1.1 413")
  squeezed = zlib.compress(RED)
  answer = client.post("/api/search", squeezed, Content_Encoding="deflate")
  assert answer.status == 415
  assert client.search("red")["total"] == 6


def test_headers_that_are_too_large(client):
  for line in (
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
  ):
    answer = place.raw(client.port, line)
    # Whole, or in parts; or cut off while it sends.
    assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")
  assert client.search("red")["total"] == 6


def bomb_png(side):
  out = io.BytesIO()
  Image.fromarray(np.zeros((side, side), np.uint8)).save(out, "PNG")
  return out.getvalue()


def test_bombs_are_told_by_their_headers(client):
  bomb = bomb_png(9_000)  # 81 megapixels in some 80 kB
  assert len(bomb) < 200_000
  refused = client.give(bomb)
  assert refused.status == 422 and "decompression bomb" in refused.json()["detail"]
  strip = io.BytesIO()
  Image.fromarray(np.zeros((5, 5_000), np.uint8)).save(strip, "PNG")
  assert client.give(strip.getvalue()).status == 422
  assert client.give(b"<svg xmlns='http://www.w3.org/2000/svg'/>").status == 422
  assert client.give(RED, "image/svg+xml").status == 415
  assert client.search("red")["total"] == 6


def test_slow_headers_are_cut_off(hasty):
  for begun in (b"", b"GET / HTTP/1.1\r\nHost: local", b"GET"):
    with socket.create_connection(("127.0.0.1", hasty.port), 60) as connection:
      connection.sendall(begun)
      assert place.received(connection) == b""  # the end, and no answer
  # Again after an answer, on the same connection; each byte is no new patience.
  with socket.create_connection(("127.0.0.1", hasty.port), 60) as connection:
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /")
    got = place.received(connection)
    assert got.count(b"HTTP/1.1") == 1 and got.startswith(b"HTTP/1.1 200")


def test_slow_bodies_are_told_and_cut_off(hasty):
  with socket.create_connection(("127.0.0.1", hasty.port), 60) as connection:
    connection.sendall(HEAD + b"Content-Length: 16\r\n\r\n" + RED[:5])
    assert place.received(connection).startswith(b"HTTP/1.1 408")
  assert hasty.search("red")["total"] == 6


def test_answers_that_nobody_takes_are_cut_off(hasty):
  """The client asks and asks, and reads nothing until it is cut off."""
  with socket.socket() as connection:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", hasty.port))
    one = b"GET /assets/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
      for _ in range(1_000_000):
        connection.sendall(one)
  assert hasty.search("red")["total"] == 6


def test_too_many_connections_are_told_so(folder, monkeypatch):
  monkeypatch.setattr(limits, "CONNECTIONS", 3)
  with place.served(folder / "index") as port:
    client = place.Client(port)
    held = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(3)]
    for each in held:
      each.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert each.recv(1 << 16).startswith(b"HTTP/1.1 200")  # it is counted by now
    refused = client.get("/api/index")
    assert refused.status == 503 and refused.headers["Retry-After"] == "1"
    for each in held:
      each.close()
    place.until(lambda: client.get("/api/index").status == 200)


def test_too_many_requests_get_503_and_the_others_their_answer(folder, monkeypatch):
  monkeypatch.setattr(limits, "REQUESTS", 2)
  model = place.Model()
  with place.served(folder / "index", model) as port:
    client = place.Client(port)
    before = len(model.texts)
    model.gate.clear()
    held = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(2)]
    whole = HEAD + b"Content-Length: 16\r\nConnection: close\r\n\r\n" + RED
    for each in held:
      each.sendall(whole)
    # Until both are inside, others are answered: which are turned away is asked again.
    place.until(lambda: client.get("/api/index").status == 503)
    model.gate.set()
    for each in held:
      assert place.received(each).startswith(b"HTTP/1.1 200")
      each.close()
    assert len(model.texts) > before
    place.until(lambda: client.get("/api/index").status == 200)
