"""Who may ask what from where: hosts, origins, tokens, and the headers of answers."""

import urllib.parse
from collections.abc import Mapping, Sequence
from http import cookies

from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.tokens import Sessions, Token, name_of

COOKIE = "tpr_session"
LOCAL = "local"  # who asks where no token is needed
# Nothing of others, nothing inline, in nobody's frame.
POLICY = (
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
  " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
  "Cache-Control": "no-store",  # of answers that do not say otherwise
}


class Rules:
  """Args: hosts: that requests may be for; None: any. tokens: empty: none needed."""

  def __init__(self, hosts: frozenset[str] | None, tokens: Sequence[Token]):
    self._hosts, self._tokens = hosts, tuple(tokens)
    self.sessions = Sessions()

  @property
  def needs_token(self) -> bool:
    return bool(self._tokens)

  def check_host(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises Refused: 400, not one Host; 421, one that is not ours.

    A page of another site may have its name point here (DNS rebinding): the browser
    then takes our answers for that site's own. Its Host tells.
    """
    given = [value for name, value in headers if name == b"host"]
    if len(given) != 1:
      raise Refused(400, f"Expected one header Host, found {len(given)}.")
    if (
      self._hosts is not None and host_of(given[0].decode("latin-1")) not in self._hosts
    ):
      raise Refused(
        421, "This server is not known by that name (--allowed_hosts names others)."
      )

  def check_origin(self, headers: Mapping[str, str]) -> None:
    """Raises Refused (403): a page of another site sends this. Programs send none."""
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    same = origin is None or _netloc(origin) == headers.get("host", "").lower()
    if site not in ("same-origin", "none") or not same:
      raise Refused(403, "Only this server's own page may send this.")

  def who(self, headers: Mapping[str, str]) -> str | None:
    """The name of whoever asks; None: a token is needed and not there."""
    if not self._tokens:
      return LOCAL
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
      return self.name_of(token.strip())
    secret = session_of(headers)
    return None if secret is None else self.sessions.name_of(secret)

  def name_of(self, token: str) -> str | None:
    return name_of(token, self._tokens)


def host_of(value: str) -> str:
  """The name in a Host header, without its port; "" where it is none."""
  try:
    return (urllib.parse.urlsplit(f"//{value}").hostname or "").rstrip(".")
  except ValueError:
    return ""


def _netloc(origin: str) -> str | None:
  try:
    return urllib.parse.urlsplit(origin).netloc.lower() or None
  except ValueError:
    return None


def session_of(headers: Mapping[str, str]) -> str | None:
  try:
    found = cookies.SimpleCookie(headers.get("cookie", "")).get(COOKIE)
  except cookies.CookieError:
    return None
  return None if found is None else found.value


def cookie(secret: str, *, secure: bool) -> str:
  """Set-Cookie of a session; of none where `secret` is ""."""
  age = limits.SESSION_SECONDS if secret else 0
  found = f"{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}"
  return f"{found}; Secure" if secure else found
