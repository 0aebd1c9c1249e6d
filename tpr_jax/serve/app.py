"""The routes: a page with its login, and the API that it uses (api.py)."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tpr_jax.search.problems import AskedError, ConditionError, SearchError
from tpr_jax.serve import bodies, guard, limits, openapi, security
from tpr_jax.serve.api import Api, address
from tpr_jax.serve.assets import Assets
from tpr_jax.serve.audit import Audit
from tpr_jax.serve.engine import Engine
from tpr_jax.serve.problems import Refused


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
    self._assets = Assets()
    self._api = Api(engine, audit, audited)
    self._description = openapi.document(rules.needs_token)

  def app(self, say: Callable[[str], None] = guard.log) -> ASGIApp:
    get, post, api = ["GET"], ["POST"], self._api
    picture = "/api/pictures/{key}"
    routes = [
      Route("/", self.page, methods=get),
      Route("/login", self.login_page, methods=get),
      Route("/login", self.login, methods=post),
      Route("/logout", self.logout, methods=post),
      Route("/assets/{name}", self.asset, methods=get),
      Route("/openapi.json", self.description, methods=get),
      Route("/health", self.health, methods=get),
      Route("/api/index", self.known(api.index), methods=get),
      Route("/api/search", self.known(api.search), methods=post),
      Route("/api/explain", self.known(api.explain), methods=post),
      Route("/api/sheet", self.known(api.sheet), methods=post),
      Route("/api/pictures", self.known(api.give), methods=post),
      Route(f"{picture}/thumbnail", self.known(api.thumbnail), methods=get),
      Route(f"{picture}/view", self.known(api.view), methods=get),
      Route(f"{picture}/frame", self.known(api.frame), methods=get),
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
    act = "login" if name else "login refused"
    self._audit.write(act, name or "unknown", address(request))
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

  # --- what needs none ------------------------------------------------------------

  async def health(self, request: Request) -> Response:
    return JSONResponse(dict(status="ok"))

  async def description(self, request: Request) -> Response:
    return JSONResponse(self._description)


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
