"""Requests a second, and how long they take, of a server on loopback.

  python -m tests.benchmarks.serving                       64 clients, 20 seconds
  python -m tests.benchmarks.serving --pictures=100000 --clients=64 --seconds=30
  python -m tests.benchmarks.serving --place=http://127.0.0.1:8000 --token=TOKEN

Without --place, drawn rows of D numbers go into an index in a temporary folder, with a
thumbnail of 3 kB each, and its server runs in a process of its own with a model that
costs nothing: what is measured is the server, the search and the store, not towers.
Every client asks one request after another on one connection, as the page does: a
search of 48 results, then some of their thumbnails. A 503 is taken, its Retry-After is
slept, and it is counted apart; any other answer ends the program with status 1.
Latencies are of the requests that were answered 200.
"""

import argparse
import collections
import contextlib
import hashlib
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import numpy as np

WORDS = ["red", "green", "blue", "coat", "bag", "cap", "shoes", "dark", "long", "short"]


class Drawn:
  """A model whose rows are drawn from the words."""

  dim = 0

  def identity(self):
    return dict(place="drawn", digest="drawn", step=None, load={})

  def load(self):
    return self

  def about(self):
    return dict(dim=self.dim)

  def encode_texts(self, texts):
    rows = [
      np.random.default_rng(int.from_bytes(hashlib.sha256(t.encode()).digest()[:8]))
      .standard_normal(self.dim)
      .astype(np.float32)
      for t in texts
    ]
    return np.stack([row / np.linalg.norm(row) for row in rows])


def make(folder: pathlib.Path, pictures: int, dim: int) -> None:
  """An index of drawn rows."""
  from tpr_jax.search import about
  from tpr_jax.search.store import Store

  model = Drawn()
  model.dim = dim
  about.write(folder, about.make(folder, model.identity(), model))
  store, rng = Store(folder, dim), np.random.default_rng(0)
  for start in range(0, pictures, 4096):
    count = min(4096, pictures - start)
    vectors = rng.standard_normal((count, dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
      dict(
        path=f"{start + i:09}.jpg",
        hash=hashlib.blake2b(b"%d" % (start + i), digest_size=16).hexdigest(),
        size=start + i,
        thumbnail=rng.bytes(3_000),
        vector=vectors[i],
      )
      for i in range(count)
    ]
    store.put(rows, replaces=False)
  store.tidy()


def serve(folder: str, dim: int) -> None:
  """In a process of its own; says its port."""
  from tpr_jax.search.index import Index
  from tpr_jax.serve import run, settings

  model = Drawn()
  model.dim = dim
  hosts = frozenset({"127.0.0.1"})
  asked = settings.Serving(pathlib.Path(folder), port=0, hosts=hosts)
  server = run.make(asked, Index(asked.index, model))
  with run.listen(asked) as own:
    own.listen(256)
    print(f"port {own.getsockname()[1]}", flush=True)
    server.run(sockets=[own])


class Client(threading.Thread):
  """times: kind -> seconds of each request; seen: (kind, status) -> how many."""

  def __init__(self, place, token, seed, thumbnails, end):
    super().__init__()
    self._place, self._end, self._thumbnails = place, end, thumbnails
    self._rng, self._headers = random.Random(seed), {"Content-Type": "application/json"}
    if token:
      self._headers["Authorization"] = f"Bearer {token}"
    self.times, self.seen = collections.defaultdict(list), collections.Counter()
    self.wrong = ""

  def run(self):
    host = self._place.netloc
    kind = http.client.HTTPSConnection if self._place.scheme == "https" else (
      http.client.HTTPConnection
    )  # fmt: skip
    with contextlib.closing(kind(host, timeout=60)) as connection:
      try:
        while time.monotonic() < self._end and not self.wrong:
          self._turn(connection)
      except (OSError, http.client.HTTPException) as error:
        self.wrong = f"{type(error).__name__}: {error}"

  def _turn(self, connection):
    words = " ".join(self._rng.choices(WORDS, k=6)) + f" {self._rng.random():.6f}"
    answer = self._ask(connection, "search", "POST", "/api/search", dict(query=words))
    for hit in (answer or dict(hits=[]))["hits"][: self._thumbnails]:
      path = f"/api/pictures/{hit['key']}/thumbnail"
      self._ask(connection, "thumbnail", "GET", path)

  def _ask(self, connection, kind, method, path, body=None):
    data = None if body is None else json.dumps(body)
    began = time.monotonic()
    connection.request(method, path, data, self._headers)
    answer = connection.getresponse()
    found = answer.read()
    self.seen[kind, answer.status] += 1
    if answer.status == 503 and answer.headers["Retry-After"]:
      time.sleep(float(answer.headers["Retry-After"]))
      return None
    if answer.status != 200:
      self.wrong = f"{method} {path}: {answer.status} {found[:200]!r}"
      return None
    self.times[kind].append(time.monotonic() - began)
    return json.loads(found) if kind == "search" else None


def load(place: str, token: str, clients: int, seconds: float, thumbnails: int) -> int:
  """Prints the table -> exit status."""
  end = time.monotonic() + seconds
  found = [
    Client(urllib.parse.urlsplit(place), token, i, thumbnails, end)
    for i in range(clients)
  ]
  for each in found:
    each.start()
  for each in found:
    each.join()
  seen = sum((each.seen for each in found), collections.Counter())
  for kind in ("search", "thumbnail"):
    times = np.sort([t for each in found for t in each.times[kind]])
    if len(times):
      cut = 1e3 * np.quantile(times, (0.5, 0.95, 0.99))
      shown = ", ".join(
        f"p{p} {v:,.0f}" for p, v in zip((50, 95, 99), cut, strict=True)
      )
      busy = seen[kind, 503]
      print(
        f"{kind}: {len(times):,} answered, {len(times) / seconds:,.0f} a second,"
        f" {shown} ms; {busy:,} told to come again (503)"
      )
  wrong = [each.wrong for each in found if each.wrong]
  for each in sorted(set(wrong))[:5]:
    print(f"wrong: {each}")
  return 1 if wrong else 0


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--place", default="")
  parser.add_argument("--token", default="")
  parser.add_argument("--pictures", type=int, default=20_000)
  parser.add_argument("--dim", type=int, default=512)
  parser.add_argument("--clients", type=int, default=64)
  parser.add_argument("--seconds", type=float, default=20)
  parser.add_argument("--thumbnails", type=int, default=8, help="after each search")
  parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
  given = parser.parse_args()
  if given.serve:
    serve(given.serve, given.dim)
    return 0
  if given.place:
    return load(
      given.place, given.token, given.clients, given.seconds, given.thumbnails
    )
  with tempfile.TemporaryDirectory() as folder:
    # In another process: what making it leaves in memory is not the server's.
    maker = multiprocessing.get_context("spawn").Process(
      target=make, args=(pathlib.Path(folder), given.pictures, given.dim)
    )
    maker.start()
    maker.join()
    if maker.exitcode:
      return 1
    command = [sys.executable, "-m", "tests.benchmarks.serving"]
    command += [f"--serve={folder}", f"--dim={given.dim}"]
    server = subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
      port = re.fullmatch(r"port (\d+)\n", server.stdout.readline())[1]
      print(f"{given.pictures:,} x {given.dim}, {given.clients} clients", flush=True)
      place = f"http://127.0.0.1:{port}"
      stat = pathlib.Path(f"/proc/{server.pid}/stat")
      before = sum(map(int, stat.read_text().split()[13:15])) if stat.exists() else 0
      status = load(place, "", given.clients, given.seconds, given.thumbnails)
      about = pathlib.Path(f"/proc/{server.pid}")
      if about.exists():  # Linux
        spent = sum(map(int, (about / "stat").read_text().split()[13:15])) - before
        peak = re.search(r"VmHWM:\s+(\d+)", (about / "status").read_text())[1]
        print(
          f"the server: {spent / os.sysconf('SC_CLK_TCK'):.1f} s of processor time,"
          f" {int(peak) >> 10:,} MiB at most"
        )
      return status
    finally:
      server.terminate()
      server.wait()


if __name__ == "__main__":
  sys.exit(main())
