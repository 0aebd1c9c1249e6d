"""What the API answers (openapi.py describes it), and the audit's line of each act."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tpr_jax.search import showing
from tpr_jax.search.answer import Stored
from tpr_jax.search.settings import Searching
from tpr_jax.serve import bodies, explaining, fields, limits, openapi, views
from tpr_jax.serve.assets import unchanged
from tpr_jax.serve.audit import Audit
from tpr_jax.serve.engine import Asked, Engine, Found
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.worker import Room

_KEPT = "private, max-age=604800, immutable"  # a content never changes its name


class Api:
  """Its methods answer requests of those who may ask: `request.state.who` is there.

  Args:
    engine: it searches.
    audit: where acts are written down.
    audited: whether it writes anything, to be told on the page.
  """

  def __init__(self, engine: Engine, audit: Audit, audited: bool):
    self._engine, self._audit, self._audited = engine, audit, audited
    # Apart: who sends slowly keeps nobody from having a picture decoded.
    self._sending = Room(limits.SENDING, 0)
    self._pictures = Room(limits.PICTURES, limits.PICTURES_WAITING)
    self._explaining = Room(limits.EXPLAINING, limits.EXPLAINING_WAITING)

  async def index(self, request: Request) -> Response:
    index = self._engine.index
    about = _names(index.about)
    return JSONResponse(
      dict(
        images=about["images"],
        model=about["model"]["place"],
        second_stage=index.second_stage,
        version=index.version,
        total=len(index),
        people="detector" in index.about,
        columns=index.columns,
        limits=dict(
          query=limits.QUERY,
          where=limits.WHERE,
          top=limits.TOP_MOST,
          deepest=limits.DEEPEST,
          picture_bytes=limits.PICTURE_BYTES,
        ),
        audited=self._audited,
        who=request.state.who,
        problem=self._engine.problem and "A newer version cannot be read.",
      )
    )

  async def search(self, request: Request) -> Response:
    found, asked, _ = await self._search(request, "search")
    answer = found.answer
    shown = asked.skip + len(answer.hits)
    return JSONResponse(
      dict(
        version=found.version,
        searched=answer.searched,
        total=answer.total,
        matches=answer.matches,
        recall=answer.recall,
        more=shown < min(answer.searched, limits.DEEPEST) and bool(answer.hits),
        hits=[showing.plain_hit(hit) | dict(key=hit.key) for hit in answer.hits],
      )
    )

  async def sheet(self, request: Request) -> Response:
    found, asked, own = await self._search(request, "sheet")
    index = self._engine.index
    shown = Searching(
      index.place,
      query=asked.query,
      where=asked.where,
      image_weight=asked.image_weight,
      false_alarms=asked.false_alarms,
    )
    page = await asyncio.to_thread(
      showing.page, shown, _names(index.about), found.answer, own
    )
    headers = {
      "Content-Disposition": 'attachment; filename="found.html"',
      # It is kept, not shown here; if it is, it can do nothing.
      "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:;"
      " style-src 'unsafe-inline'; frame-ancestors 'none'",
    }
    return Response(page, 200, headers, media_type="text/html")

  async def _search(
    self, request: Request, act: str
  ) -> tuple[Found, Asked, bytes | None]:
    """-> what was found and asked, and a thumbnail of the picture asked by."""
    body = await bodies.read(request, ("application/json",), limits.JSON_BYTES)
    given = fields.parse(body)
    image, own = None, None
    if "like" in given:
      stored = await asyncio.to_thread(self._engine.stored, given["like"])
      image, own = stored.row, stored.thumbnail
    elif "upload" in given:
      kept = self._engine.given(given["upload"])
      image, own = kept.row, kept.thumbnail
    asked = Asked(
      query=given.get("query", "").strip(),
      image=image,
      where=given.get("where", "").strip(),
      image_weight=given["image_weight"],
      top=int(given["top"]),
      skip=int(given["skip"]),
      false_alarms=given["false_alarms"],
      rerank=int(given["rerank"]),
    )
    index = self._engine.index
    index.check(asked.where)  # before anything waits for the model
    index.check_rerank(asked.rerank, asked.query, image is not None)
    found = await self._engine.search(asked, given.get("version"))
    self._write(
      request,
      act,
      query=asked.query or None,
      where=asked.where or None,
      like=given.get("like"),
      upload=given.get("upload"),
      skip=asked.skip or None,
      rerank=asked.rerank or None,
      version=found.version,
      searched=found.answer.searched,
      found=len(found.answer.hits),
      first=[hit.path for hit in found.answer.hits[:5]],
    )
    return found, asked, own

  async def give(self, request: Request) -> Response:
    async with self._sending:
      data = await bodies.read(request, openapi.PICTURES, limits.PICTURE_BYTES)
      async with self._pictures:
        name, digest = await self._engine.give(data)
    self._write(request, "give", upload=name, content=digest)
    return JSONResponse(dict(upload=name, seconds=limits.UPLOAD_SECONDS), 201)

  async def explain(self, request: Request) -> Response:
    body = await bodies.read(request, ("application/json",), limits.JSON_BYTES)
    given = fields.explaining(body)
    stored = await asyncio.to_thread(self._engine.stored, given["key"])
    query, folder = given["query"].strip(), self._engine.folder
    asked = (self._engine.index.encoder(), query, folder, stored)
    async with self._explaining:  # beside the worker: it takes much longer
      found = await asyncio.to_thread(explaining.of_file, *asked)
    self._write(request, "explain", query=query, path=stored.paths[0], key=stored.key)
    return JSONResponse(
      dict(
        cosine=found.cosine,
        rows=found.grid[0],
        columns=found.grid[1],
        patch=[float(each) for each in found.patch],
        words=[
          dict(word=word, weight=float(weight))
          for word, weight in zip(found.words, found.word, strict=True)
        ],
      )
    )

  async def thumbnail(self, request: Request) -> Response:
    key = _key(request)
    return _jpeg(request, f'"{key}"', await self._engine.thumbnail(key))

  async def view(self, request: Request) -> Response:
    return await self._drawn(request, "view", views.jpeg, "")

  async def frame(self, request: Request) -> Response:
    return await self._drawn(request, "frame", views.frame, "frame-")

  async def _drawn(
    self,
    request: Request,
    act: str,
    draw: Callable[[pathlib.Path, Stored], bytes],
    tag: str,
  ) -> Response:
    """A file of the index as `draw` makes it; tag: what its ETag begins with."""
    key = _key(request)
    stored = await asyncio.to_thread(self._engine.stored, key)
    folder = self._engine.folder
    async with self._pictures:
      data = await asyncio.to_thread(draw, folder, stored)
    self._write(request, act, path=stored.paths[0], key=key)
    return _jpeg(request, f'"{tag}{key}-{limits.VIEW}"', data)

  def _write(self, request: Request, act: str, **facts: Any) -> None:
    self._audit.write(act, request.state.who, address(request), **facts)


def address(request: Request) -> str:
  """Where a request comes from, as far as the socket tells."""
  return request.client.host if request.client else "-"


def _key(request: Request) -> str:
  """Raises Refused (404): it is no key."""
  found = request.path_params["key"]
  if len(found) != 32 or set(found) - set("0123456789abcdef"):
    raise Refused(404, "The index holds no such picture.")
  return found


def _jpeg(request: Request, tag: str, data: bytes) -> Response:
  headers = {"ETag": tag, "Cache-Control": _KEPT}
  if unchanged(request, tag):
    return Response(status_code=304, headers=headers)
  return Response(data, 200, headers, media_type="image/jpeg")


def _names(about: dict[str, Any]) -> dict[str, Any]:
  """Which folder and model, without where they lie on this machine."""
  last = lambda path: path.rstrip("/").rpartition("/")[2]
  return dict(
    images=last(about["images"]), model=dict(place=last(about["model"]["place"]))
  )
