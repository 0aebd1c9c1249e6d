"""A language model behind an OpenAI-compatible endpoint, /v1/chat/completions.

vLLM, llama.cpp, Ollama, `transformers serve` and hosted services speak it. What may
pass (no connection, time-outs, 408, 425, 429, 5xx, answers that are no JSON) is tried
again after a growing, jittered wait, or after the time that Retry-After asks for; what
cannot (a wrong key, model or address) ends the build with the server's own words.
"""

import email.utils
import json
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tpr_jax.curate import connection
from tpr_jax.curate.answers import Answer
from tpr_jax.curate.pace import Clock, Pace
from tpr_jax.curate.problems import CurateError, NoAnswer
from tpr_jax.curate.requests import Request
from tpr_jax.curate.settings import Rewriter

_PATH = "/chat/completions"
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)
_ONE_CAPTION = (400, 413, 422)  # the next one may be answered (a filter, a length)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")
_LONGEST_WAIT = 60.0  # seconds of our own between two tries
_LONGEST_ASKED = 900.0  # seconds that a server may ask for
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HINTS = {
  401: "the key is missing or wrong (rewriters.NAME.api_key_env names its variable)",
  402: "the account has to be paid for",
  403: "this key may not use this model",
  404: "no such model, or base_url is not complete: it usually ends in /v1",
  405: "base_url is not that of a chat endpoint: it usually ends in /v1",
}


class _Passing(Exception):
  """Try again; `wait`: seconds that the server asked for, or None."""

  def __init__(self, message: str, wait: float | None = None):
    super().__init__(message)
    self.wait = wait


class Endpoint:
  """Asks one model; used by several threads at once.

  Args:
    settings: kind "endpoint".
    clock, dice: time, and where jitter comes from.
    say: told about waits, in words.
    environ: where the key is.

  Raises:
    CurateError: base_url is no address, or the key's variable is not set.
  """

  batch = 1

  def __init__(
    self,
    settings: Rewriter,
    *,
    clock: Clock | None = None,
    dice: random.Random | None = None,
    say: Callable[[str], None] = lambda text: None,
    environ: Mapping[str, str] = os.environ,
  ):
    self.settings, self.workers = settings, settings.concurrency
    self._clock, self._dice, self._say = clock or Clock(), dice or random.Random(), say
    self._pace = Pace(settings.requests_per_minute, self._clock)
    self._url = _address(settings)
    self._headers = {"Content-Type": "application/json", "User-Agent": "tpr_jax"}
    self._key = _api_key(settings, environ)
    if self._key:
      self._headers["Authorization"] = f"Bearer {self._key}"
      parts = urllib.parse.urlsplit(self._url)
      if parts.scheme == "http" and parts.hostname not in _LOCAL:
        say(f"{parts.netloc}: the key is sent over plain http, readable on the way")
    self._heard = False  # a first answer shows that address, key and model are right

  def answer(self, requests: Sequence[Request], stop: threading.Event) -> list[Answer]:
    """One answer for each request (batch is 1).

    Raises:
      NoAnswer: not after max_retries more tries. Stopped: `stop` was set meanwhile.
    """
    return [self._ask(request, stop) for request in requests]

  def _ask(self, request, stop):
    payload = self._payload(request)
    for attempt in range(1, self.settings.max_retries + 2):
      self._pace.wait(stop)
      began = self._clock.now()
      try:
        text, finish, model = self._once(payload)
      except _Passing as passing:
        last = passing
      else:
        self._heard = True
        return Answer(text, finish, model, self._clock.now() - began, attempt)
      if attempt <= self.settings.max_retries:
        self._wait(last, attempt, stop)
    raise NoAnswer(f"{last} ({attempt} tries)", hopeless=not self._heard)

  def _payload(self, request) -> dict[str, Any]:
    given, sampling = self.settings, request.sampling
    payload = dict(model=given.model, messages=list(request.messages), stream=False)
    payload["max_tokens"] = sampling["max_tokens"]
    for field in ("temperature", "top_p"):
      if sampling[field] >= 0:
        payload[field] = sampling[field]
    if sampling["seed"] >= 0:
      payload["seed"] = request.seed
    # null in `extra` takes a field out, for servers that know it by another name.
    payload |= sampling["extra"]
    return {name: value for name, value in payload.items() if value is not None}

  def _once(self, payload) -> tuple[str, str, str]:
    try:
      got = connection.post(
        self._url, payload, self._headers, timeout=self.settings.timeout
      )
    except connection.Unreachable as error:
      if error.hopeless:
        raise NoAnswer(str(error), hopeless=True) from error
      raise _Passing(str(error)) from error
    if got.status == 200:
      return _read(got.body)
    said, code = _error(got.body)
    message = f"{self._url} answered {got.status}" + (f": {said}" if said else "")
    if self._key:
      message = message.replace(self._key, "***")
    if got.status in _PASSING and code not in _SPENT:
      raise _Passing(message, _retry_after(got.headers.get("Retry-After")))
    if 300 <= got.status < 400:
      message += f" and points to {got.headers.get('Location')}; give that as base_url"
    hint = _HINTS.get(got.status)
    one = got.status in _ONE_CAPTION
    raise NoAnswer(f"{message} ({hint})" if hint else message, hopeless=not one)

  def _wait(self, passing, attempt, stop):
    wait = min(2.0 ** (attempt - 1), _LONGEST_WAIT) * self._dice.uniform(0.5, 1.0)
    if passing.wait is not None:
      if passing.wait > _LONGEST_ASKED:
        raise NoAnswer(
          f"{passing}; it asks to come back in {passing.wait:,.0f} s", hopeless=True
        )
      wait = max(passing.wait, 0.1 * wait)
      self._pace.hold(wait)  # the others would be refused as well
    self._say(f"{passing}; trying again in {wait:.1f} s")
    self._clock.sleep(wait, stop)


def _address(settings):
  url = settings.base_url.rstrip("/").removesuffix(_PATH)
  parts = urllib.parse.urlsplit(url)
  if parts.scheme not in ("http", "https") or not parts.hostname:
    raise CurateError(
      f"--config.rewriters.{settings.key}.base_url: found {settings.base_url!r},"
      " expected an address such as http://127.0.0.1:8000/v1"
    )
  return url + _PATH


def _api_key(settings, environ):
  name = settings.api_key_env
  key = environ.get(name, "").strip() if name else ""
  if name and not key:
    raise CurateError(
      f"--config.rewriters.{settings.key}.api_key_env names the variable {name}, which"
      f" is not set: export {name}=..., or leave the field empty if no key is needed"
    )
  if not key.isascii() or not key.isprintable():
    raise CurateError(f"the key in {name} has characters that no header can carry")
  return key


def _read(body):
  """Body of a 200 -> (text, finish, model)."""
  try:
    content = json.loads(body)
    choice = content["choices"][0]
    text, finish = choice["message"].get("content"), choice.get("finish_reason")
    if isinstance(text, list):  # parts, as some servers send them
      text = "".join(part.get("text", "") for part in text)
    if not text and choice["message"].get("refusal"):
      text, finish = choice["message"]["refusal"], "refusal"
    if text is not None and not isinstance(text, str):
      raise TypeError(f"content is {type(text).__name__}")
    return text or "", str(finish or ""), str(content.get("model") or "")
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    start = body[:80].decode(errors="replace")
    raise _Passing(
      f"the answer is no chat completion ({type(error).__name__}); it begins {start!r}"
    ) from error


def _error(body):
  """Body of an error -> (what the server says, its code), both "" if unknown."""
  try:
    content = json.loads(body)
  except ValueError:
    content = body.decode(errors="replace")
  code = ""
  for name in ("error", "detail", "message"):
    if isinstance(content, dict) and name in content:
      content = content[name]
      code = content.get("code", "") if isinstance(content, dict) else code
  text = content if isinstance(content, str) else json.dumps(content)
  return " ".join(text.split())[:300], str(code)


def _retry_after(value):
  """Seconds, from a number or an HTTP date; None where there is neither."""
  if not value:
    return None
  try:
    return max(float(value), 0.0)
  except ValueError:
    try:
      return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0)
    except ValueError:
      return None
