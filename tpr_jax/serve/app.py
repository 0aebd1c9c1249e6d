"""The routes: a page, and the API that it uses (openapi.py describes it)."""

import asyncio
import contextlib
import math
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tpr_jax.search import showing
from tpr_jax.search.problems import AskedError, ConditionError, SearchError
from tpr_jax.search.settings import Searching
from tpr_jax.serve import bodies, fields, guard, limits, openapi, security, views
from tpr_jax.serve.assets import Assets, unchanged
from tpr_jax.serve.audit import Audit
from tpr_jax.serve.engine import Asked, Engine, Found
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.worker import Room

_KEPT = "private, max-age=604800, immutable"  # a content never changes its name


class Site:
  """The server, but for its sockets.

  Args:
    engine: it searches; closed when the server ends.
    rules: who may ask.
    audit: where acts are written down.
    audited: whether it writes anything, to be told on the page.
  """

  def __init__(
    self, engine: Engine, rules: security.Rules, audit: Audit, audited: bool
  ):
    self._engine, self._rules, self._audit = engine, rules, audit
    self._audited, self._assets = audited, Assets()
    # Apart: who sends slowly keeps nobody from having a picture decoded.
    self._sending = Room(limits.SENDING, 0)
    self._pictures = Room(limits.PICTURES, limits.PICTURES_WAITING)
    self._description = openapi.document(rules.needs_token)

  def app(self, say: Callable[[str], None] = guard.log) -> ASGIApp:
    get, post = ["GET"], ["POST"]
    picture = "/api/pictures/{key}"
    routes = [
      Route("/", self.page, methods=get),
      Route("/login", self.login_page, methods=get),
      Route("/login", self.login, methods=post),
      Route("/logout", self.logout, methods=post),
      Route("/assets/{name}", self.asset, methods=get),
      Route("/openapi.json", self.description, methods=get),
      Route("/health", self.health, methods=get),
      Route("/api/index", self.known(self.index), methods=get),
      Route("/api/search", self.known(self.search), methods=post),
      Route("/api/sheet", self.known(self.sheet), methods=post),
      Route("/api/pictures", self.known(self.give), methods=post),
      Route(f"{picture}/thumbnail", self.known(self.thumbnail), methods=get),
      Route(f"{picture}/view", self.known(self.view), methods=get),
    ]
    handlers = {
      HTTPException: _unknown,
      Refused: lambda _, error: guard.problem(error),
      AskedError: lambda _, error: guard.problem(_asked(error)),
      SearchError: lambda _, error: guard.problem(_index(error)),
      Exception: _bug,
    }
    found = Starlette(
      routes=routes, exception_handlers=handlers, lifespan=self._lifespan
    )
    found.router.redirect_slashes = False
    return guard.Guard(found, self._rules, say)

  @contextlib.asynccontextmanager
  async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
    task = asyncio.create_task(self._watch())
    try:
      yield
    finally:
      task.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await task
      await asyncio.to_thread(self._engine.close)

  async def _watch(self) -> None:
    while True:
      await asyncio.sleep(limits.REFRESH_SECONDS)
      await asyncio.to_thread(self._engine.refresh)

  # --- the page -------------------------------------------------------------------

  async def page(self, request: Request) -> Response:
    if self._rules.who(request.headers) is None:
      return RedirectResponse("/login", 303)
    return self._assets.get(request, "index.html")

  async def asset(self, request: Request) -> Response:
    return self._assets.get(request, request.path_params["name"])

  async def login_page(self, request: Request) -> Response:
    if self._rules.who(request.headers) is not None:
      return RedirectResponse("/", 303)
    return self._login("", 200)

  def _login(self, said: str, status: int) -> Response:
    page = self._assets.text("login.html").replace("{{ said }}", said)
    found = HTMLResponse(page, status)
    # With no-referrer, browsers hide the origin of a form, which `login` must know.
    found.headers["Referrer-Policy"] = "same-origin"
    return found

  async def login(self, request: Request) -> Response:
    kind = ("application/x-www-form-urlencoded",)
    body = await bodies.read(request, kind, limits.FORM_BYTES)
    form = urllib.parse.parse_qs(body.decode("utf-8", "replace"), max_num_fields=9)
    name = self._rules.name_of(form.get("token", [""])[0].strip())
    self._write(request, "login" if name else "login refused", who=name or "unknown")
    if name is None:
      return self._login("This is not a token of this server.", 401)
    origin = request.headers.get("origin", "")
    secure = request.url.scheme == "https" or origin.startswith("https:")
    secret = self._rules.sessions.begin(name)
    headers = {"Set-Cookie": security.cookie(secret, secure=secure)}
    return RedirectResponse("/", 303, headers)

  async def logout(self, request: Request) -> Response:
    secret = security.session_of(request.headers)
    if secret is not None:
      self._rules.sessions.end(secret)
    headers = {"Set-Cookie": security.cookie("", secure=False)}
    return RedirectResponse("/login", 303, headers)

  # --- the API --------------------------------------------------------------------

  def known(self, act: Callable) -> Callable:
    """`act` for those who may ask. Raises Refused (401): a token is needed."""

    async def checked(request: Request) -> Response:
      request.state.who = self._rules.who(request.headers)
      if request.state.who is None:
        raise Refused(401, "A token is needed: log in.", {"WWW-Authenticate": "Bearer"})
      return await act(request)

    return checked

  async def health(self, request: Request) -> Response:
    return JSONResponse(dict(status="ok"))

  async def description(self, request: Request) -> Response:
    return JSONResponse(self._description)

  async def index(self, request: Request) -> Response:
    index = self._engine.index
    about = _names(index.about)
    return JSONResponse(
      dict(
        images=about["images"],
        model=about["model"]["place"],
        version=index.version,
        total=len(index),
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
        more=shown < min(answer.searched, limits.DEEPEST) and bool(answer.hits),
        hits=[
          dict(
            rank=hit.rank,
            score=hit.score,
            path=hit.path,
            key=hit.key,
            cosines=dict(hit.cosines),
            values={name: _value(value) for name, value in hit.values.items()},
          )
          for hit in answer.hits
        ],
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
    )
    self._engine.index.check(asked.where)  # before anything waits for the model
    found = await self._engine.search(asked, given.get("version"))
    self._write(
      request,
      act,
      query=asked.query or None,
      where=asked.where or None,
      like=given.get("like"),
      upload=given.get("upload"),
      skip=asked.skip or None,
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

  async def thumbnail(self, request: Request) -> Response:
    key = _key(request)
    return _jpeg(request, f'"{key}"', await self._engine.thumbnail(key))

  async def view(self, request: Request) -> Response:
    key = _key(request)
    stored = await asyncio.to_thread(self._engine.stored, key)
    folder = self._engine.folder
    async with self._pictures:
      data = await asyncio.to_thread(views.jpeg, folder, stored)
    self._write(request, "view", path=stored.paths[0], key=key)
    return _jpeg(request, f'"{key}-{limits.VIEW}"', data)

  def _write(self, request: Request, act: str, who: str = "", **facts: Any) -> None:
    address = request.client.host if request.client else "-"
    self._audit.write(act, who or request.state.who, address, **facts)


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


def _value(value: Any) -> Any:
  """As JSON: which has no infinite numbers."""
  plain = showing.plain_value(value)
  return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _names(about: dict[str, Any]) -> dict[str, Any]:
  """Which folder and model, without where they lie on this machine."""
  last = lambda path: path.rstrip("/").rpartition("/")[2]
  return dict(
    images=last(about["images"]), model=dict(place=last(about["model"]["place"]))
  )


def _asked(error: AskedError) -> Refused:
  if isinstance(error, ConditionError):
    return Refused(422, f"The condition: {error.what}", at=error.at)
  return Refused(422, str(error))


def _index(error: SearchError) -> Refused:
  guard.log(f"error: {error}")
  return Refused(503, "The index cannot be read now.", {"Retry-After": "30"})


async def _unknown(request: Request, error: HTTPException) -> Response:
  """What the router says: no such path, or another method."""
  what = {404: "There is nothing at this address.", 405: "Another method is expected."}
  detail = what.get(error.status_code, str(error.detail))
  return guard.problem(Refused(error.status_code, detail, error.headers))


async def _bug(request: Request, error: Exception) -> Response:
  """A bug: its traceback is for the log alone."""
  return guard.problem(Refused(500, "Something is wrong in the server; its log says."))
