"""Thousands of malformed requests: no crash, no 500, nothing told that is not asked."""

import collections
import http.client
import io
import threading

import pytest

from tests.search import place as searching
from tests.serve import fuzz, place
from tpr_jax.serve import limits, openapi, security

THREADS = 6
SECRETS = (b"THE-SECRET", b"root:x:", b"Traceback", b"lance/", b"/tmp/", b"site-pack")


@pytest.fixture
def open_to_noise(tmp_path, monkeypatch):
  """(port, keys) of a server beside files that are nobody's business."""
  for name in ("HEAD_SECONDS", "BODY_SECONDS"):
    monkeypatch.setattr(limits, name, 1.0)
  images = searching.folder(tmp_path / "images")
  table = tmp_path / "table.csv"
  table.write_text("path,camera\ncam0/000.png,gate\ncam1/001.png,yard\n")
  searching.index(images, tmp_path / "index", metadata=table)
  for folder in (tmp_path, images, images / "cam0", tmp_path / "index"):
    (folder / "secret.txt").write_text("THE-SECRET")
  with place.served(tmp_path / "index") as port:
    client = place.Client(port)
    yield port, [hit["key"] for hit in client.search("red")["hits"]]
    assert len(client.search("red", where="size > 0")["hits"]) == 6  # it goes on


def parsed(data):
  """The first answer in what came back."""

  class Socket:
    def makefile(self, _):
      return io.BytesIO(data)

  found = http.client.HTTPResponse(Socket())
  found.begin()
  return place.Answer(found.status, found.headers, found.read())


def check(document, request, data, keys):
  """-> the status; asserts that the answer may be one of this request."""
  for secret in SECRETS:
    assert secret not in data, (request[:500], data[:2_000])
  if not data:
    return None  # it was no request, and its time was over
  method, path = (*request.split(b" ", 2)[:2], b"")[:2]
  if method == b"HEAD":
    assert data.startswith(b"HTTP/1.1 ") and b" 500 " not in data[:20], request[:500]
    return int(data[9:12])
  answer = parsed(data)
  assert answer.status < 500, (request[:2_000], data[:500])
  for name in security.HEADERS:
    assert name in answer.headers, (request[:500], data[:500])
  if answer.kind == "image/jpeg":
    assert any(key.encode() in path for key in keys)
  if answer.status != 404:
    place.as_described(
      document, method.decode("latin-1"), path.decode("latin-1"), answer
    )
  return answer.status


def run(port, keys, count, seed):
  """`count` requests -> Counter of the statuses."""
  document, seen = openapi.document(False), collections.Counter()
  wrong, lock = [], threading.Lock()

  def work(number):
    fuzzer = fuzz.Fuzzer(f"{seed}-{number}", keys)
    for _ in range(count // THREADS):
      request = fuzzer.request()
      try:
        status = check(document, request, place.raw(port, request), keys)
      except Exception as error:  # of this thread: told by the test
        with lock:
          wrong.append((error, request[:2_000]))
        return
      with lock:
        seen[status] += 1

  threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong, wrong[0]
  return seen


def test_six_hundred_malformed_requests(open_to_noise):
  seen = run(*open_to_noise, 600, seed=0)
  assert {200, 400, 404, 405, 415, 422} <= set(seen), seen


@pytest.mark.proof
def test_ten_thousand_malformed_requests(open_to_noise):
  seen = run(*open_to_noise, 10_002, seed=1)
  print(seen)
  often = {200, 201, 303, 400, 403, 404, 405, 408, 415, 421, 422, 431}
  assert often <= set(seen), seen
