"""Connections that may not take for ever: uvicorn's HTTP/1.1 with deadlines.

uvicorn ends connections that are idle between requests. Here each phase has an end: a
client that sends its headers a byte at a time, or never takes its answer, is cut off.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from tpr_jax.serve import guard, limits, problems, security
from tpr_jax.serve.problems import Refused


class Patient(H11Protocol):
  """Patience with a limit."""

  def __init__(self, *args: Any, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self._deadline: asyncio.TimerHandle | None = None
    self._asked: Any = None  # the request that the deadline is of

  def connection_made(self, transport: asyncio.Transport) -> None:
    super().connection_made(transport)
    if len(self.connections) > limits.CONNECTIONS:
      self.app = guard.full
    self._until(limits.HEAD_SECONDS)

  def data_received(self, data: bytes) -> None:
    super().data_received(data)
    if self.cycle is not self._asked and not self.cycle.response_complete:
      self._asked = self.cycle
      self._until(limits.BODY_SECONDS + limits.ANSWER_SECONDS)

  def on_response_complete(self) -> None:
    # What is still in the buffer gets the time of an answer, the next headers theirs.
    pending = self.transport.get_write_buffer_size() > 0
    self._until(limits.ANSWER_SECONDS if pending else limits.HEAD_SECONDS)
    super().on_response_complete()

  def connection_lost(self, exc: Exception | None) -> None:
    if self._deadline is not None:
      self._deadline.cancel()
    super().connection_lost(exc)

  def send_400_response(self, msg: str) -> None:
    """What is no HTTP is told so like anything else that is wrong."""
    if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
      self.transport.abort()  # in the middle of an answer: there is nothing to be said
      return
    refused = Refused(400, "This is no HTTP/1.1 request, or its headers are too large.")
    body = refused.body()
    headers = [
      *security.HEADERS.items(),
      ("Content-Type", problems.MEDIA_TYPE),
      ("Content-Length", str(len(body))),
      ("Connection", "close"),
    ]
    for event in (
      h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
      h11.Data(data=body),
      h11.EndOfMessage(),
    ):
      self.transport.write(self.conn.send(event))
    self.transport.close()

  def _until(self, seconds: float) -> None:
    if self._deadline is not None:
      self._deadline.cancel()
    self._deadline = self.loop.call_later(seconds, self.transport.abort)
