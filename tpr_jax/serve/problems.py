"""What is told to a client instead of an answer."""

import http
import json
from collections.abc import Mapping

from tpr_jax.serve import limits


class ServeError(Exception):
  """The server cannot be started so: says what was found and how to mend it."""


class Refused(Exception):
  """A request that gets no answer (RFC 9457).

  Attributes:
    status: of HTTP. detail: for people. headers: beside the usual ones.
    at: the character of a condition that is wrong, from 1, or None.
  """

  def __init__(
    self,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    at: int | None = None,
  ):
    super().__init__(detail)
    self.status, self.detail, self.headers, self.at = status, detail, headers or {}, at

  def body(self) -> bytes:
    found = dict(
      title=http.HTTPStatus(self.status).phrase, status=self.status, detail=self.detail
    )
    if self.at is not None:
      found["at"] = self.at
    return json.dumps(found, ensure_ascii=False).encode("utf-8")


MEDIA_TYPE = "application/problem+json"


def busy() -> Refused:
  return Refused(
    503,
    "Too many others are being answered; try again in a moment.",
    {"Retry-After": str(limits.RETRY_AFTER)},
  )
