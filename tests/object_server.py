"""An object store of one test: the PyPI package gcp-storage-emulator, made fit for use.

The emulator serves one request at a time, says no generation of what it returns and
honors no precondition; TensorStore needs all three. Here it answers in threads, its
storage locked, and can be told to fail.
"""

import contextlib
import os
import threading
from http import HTTPStatus, server
from urllib.parse import unquote

import pytest

BUCKET = "bucket"


def client_environment(port):
  """Of a process that uses it."""
  url = f"http://localhost:{port}"
  return {
    "STORAGE_EMULATOR_HOST": url,  # gcsfs, google-cloud-storage
    "TENSORSTORE_GCS_HTTP_URL": url,
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "unused",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks for credentials
    "NO_GCE_CHECK": "true",
  }


class Store:
  """What is in the bucket, and how it answers.

  Attributes:
    fail: (method, object name) -> status to answer with, None: as it should.
    log: (method, object name) of every request.
  """

  def __init__(self, storage, port):
    self._storage, self.port = storage, port
    self.fail, self.log = lambda method, name: None, []

  def names(self, within=""):
    found = self._storage.objects.get(BUCKET, {})
    return sorted(name for name in list(found) if name.startswith(within))

  def read(self, name):
    return self._storage.get_file(BUCKET, name)

  def write(self, name, data):
    """Changes what is there: damage."""
    about = dict(self._storage.objects[BUCKET][name], size=str(len(data)))
    self._storage.create_file(BUCKET, name, data, about)

  def delete(self, name):
    self._storage.delete_file(BUCKET, name)

  def generation(self, name):
    return self._storage.objects.get(BUCKET, {}).get(name, {}).get("generation", "0")


def _named(request):
  """The object that a request is about, "" for others."""
  path, _, query = request.path.partition("?")
  fields = dict(word.partition("=")[::2] for word in query.split("&"))
  if "/o/" in path:
    return unquote(path.partition("/o/")[2].partition("/rewriteTo/")[0]), fields
  return unquote(fields.get("name", "")) if "upload" in path else "", fields


@contextlib.contextmanager
def serve():
  """Yields a Store that answers at localhost:store.port."""
  emulator = pytest.importorskip("gcp_storage_emulator.server")
  from gcp_storage_emulator.storage import Storage

  storage, lock = Storage(use_memory_fs=True), threading.RLock()
  storage._write_config_to_file = lambda: None  # all of it, at every request
  storage.create_bucket(BUCKET, {"name": BUCKET, "kind": "storage#bucket"})

  class Handler(emulator.RequestHandler):
    def __init__(self, *args):
      super().__init__(storage, *args)

    def handle_one_request(self):
      self.generation = None
      super().handle_one_request()

    def _answer(self, method):
      name, fields = _named(self)
      store.log.append((method, name))
      status = store.fail(method, name) or self._refused(name, fields)
      if status is None:
        with lock:
          self.generation = store.generation(name) if method == "GET" else None
          emulator.Router(self).handle(method)
        return
      self.rfile.read(int(self.headers.get("Content-Length") or 0))
      self.send_response(status)
      self.send_header("Content-Length", "0")
      self.end_headers()

    def _refused(self, name, fields):
      there = store.generation(name)
      if fields.get("ifGenerationMatch", there) != there:
        return HTTPStatus.PRECONDITION_FAILED
      if fields.get("ifGenerationNotMatch") == there != "0":
        return HTTPStatus.NOT_MODIFIED
      return None

    def end_headers(self):
      if self.generation:
        self.send_header("x-goog-generation", self.generation)
      super().end_headers()

    def do_GET(self):
      self._answer("GET")

    def do_POST(self):
      self._answer("POST")

    def do_PUT(self):
      self._answer("PUT")

    def do_DELETE(self):
      self._answer("DELETE")

    def do_PATCH(self):
      self._answer("PATCH")

    def log_message(self, *_):
      pass

  class Server(server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True

    def handle_error(self, *_):  # a client that was killed
      pass

  with Server(("localhost", 0), Handler) as answering:
    store = Store(storage, answering.server_address[1])
    thread = threading.Thread(target=answering.serve_forever, daemon=True)
    thread.start()
    try:
      yield store
    finally:
      answering.shutdown()


if __name__ == "__main__":  # by hand: python -m tests.object_server
  with serve() as shown:
    for key, value in client_environment(shown.port).items():
      print(f"export {key}={value}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
      threading.Event().wait()
  os._exit(0)
