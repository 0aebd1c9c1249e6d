"""gs:// in memory, for tests of what is mirrored: no server and no other package.

It has the rules of an object store that matter: no empty folders, no appending, and a
rename of a folder is a copy and a deletion, file by file.
"""

import datetime
import importlib.util
import io

import fsspec
import pytest
from etils.epath import backend
from fsspec.spec import AbstractFileSystem

from tpr_jax.core import storage


class Bucket(AbstractFileSystem):
  """Objects of all buckets: `objects`, name -> (bytes, seconds since 1970).

  Attributes:
    fail: (what, name) -> None, or raises; what: "read", "write", "list", "delete".
    log: (what, name) of every request that went well.
  """

  protocol = ("gs", "gcs")
  cachable = False

  def __init__(self, **options):
    super().__init__(**options)
    self.objects, self.log, self.clock = {}, [], 1_000_000_000
    self.fail = lambda what, name: None

  @classmethod
  def _strip_protocol(cls, path):
    return str(path).partition("://")[2].rstrip("/") if "://" in str(path) else path

  def _done(self, what, name):
    self.fail(what, name)
    self.log.append((what, name))

  def info(self, path, **_):
    path = self._strip_protocol(path)
    if path in self.objects:
      data, when = self.objects[path]
      mtime = datetime.datetime.fromtimestamp(when, datetime.UTC)
      return dict(name=path, size=len(data), type="file", mtime=mtime)
    below = any(name.startswith(f"{path}/") for name in list(self.objects))
    if below or path == "bucket":
      return dict(name=path, size=0, type="directory")
    raise FileNotFoundError(path)

  def ls(self, path, detail=True, **_):
    path = self._strip_protocol(path)
    self._done("list", path)
    under = [name for name in list(self.objects) if name.startswith(f"{path}/")]
    if not under:
      raise FileNotFoundError(path)
    tops = sorted({f"{path}/{n[len(path) + 1 :].split('/')[0]}" for n in under})
    return [self.info(top) for top in tops] if detail else tops

  def makedirs(self, path, exist_ok=False):
    """There are no empty folders."""

  def mkdir(self, path, create_parents=True, **_):
    """There are no empty folders."""

  def _open(self, path, mode="rb", **_):
    path = self._strip_protocol(path)
    if mode == "rb":
      self._done("read", path)
      if path not in self.objects:
        raise FileNotFoundError(path)
      return io.BytesIO(self.objects[path][0])
    assert mode == "wb", "objects cannot be appended to"
    return _Writing(self, path)

  def put(self, path, data):
    path = self._strip_protocol(path)
    self._done("write", path)
    self.clock += 1
    self.objects[path] = bytes(data), self.clock

  def cp_file(self, path1, path2, **_):
    source = self._strip_protocol(path1)
    if source in self.objects:  # a folder has nothing to copy
      self.put(path2, self.objects[source][0])

  def _rm(self, path):
    path = self._strip_protocol(path)
    self._done("delete", path)
    self.objects.pop(path, None)


class _Writing(io.BytesIO):
  def __init__(self, bucket, path):
    super().__init__()
    self._bucket, self._path = bucket, path

  def close(self):
    data = None if self.closed else self.getvalue()
    super().close()
    if data is not None:
      self._bucket.put(self._path, data)


@pytest.fixture(name="bucket")
def bucket_fixture(monkeypatch):
  """gs:// for this test; nobody waits before another attempt."""
  if importlib.util.find_spec("tensorflow"):
    pytest.skip("with TensorFlow, etils reads gs:// by it")
  found = Bucket()
  fs = type(backend.fsspec_backend).fs

  def ours(self, path):
    return found if str(path).startswith("gs://") else fs(self, path)

  monkeypatch.setattr(type(backend.fsspec_backend), "fs", ours)
  monkeypatch.setattr(storage, "_LIBRARIES", ())
  monkeypatch.setattr(storage, "_WAITS", (0.0, 0.0))
  monkeypatch.setitem(fsspec.config.conf, "gcs", {})
  return found
