"""The page: files of this package, in memory, each with an ETag."""

import hashlib
import importlib.resources

from starlette.requests import Request
from starlette.responses import Response

from tpr_jax.serve.problems import Refused

_TYPES = dict(
  html="text/html; charset=utf-8",
  css="text/css; charset=utf-8",
  js="text/javascript; charset=utf-8",
  svg="image/svg+xml",
)


class Assets:
  """All files of the folder page/, by their names alone."""

  def __init__(self) -> None:
    folder = importlib.resources.files("tpr_jax.serve") / "page"
    self._files = {each.name: each.read_bytes() for each in folder.iterdir()}

  def get(self, request: Request, name: str, status: int = 200) -> Response:
    """Raises Refused (404): there is no such file."""
    data = self._files.get(name)
    if data is None:
      raise Refused(404, "There is no such file.")
    tag = f'"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}  # kept, and asked about
    if status == 200 and unchanged(request, tag):
      return Response(status_code=304, headers=headers)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(data, status, headers, media_type=kind)

  def text(self, name: str) -> str:
    return self._files[name].decode("utf-8")


def unchanged(request: Request, tag: str) -> bool:
  """Does the client have this content?"""
  given = request.headers.get("if-none-match", "")
  return tag in (each.strip().removeprefix("W/") for each in given.split(","))
