"""The body of a request, whole or refused: never more of it than allowed in memory."""

import asyncio
from collections.abc import Collection

from starlette.requests import Request

from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused


async def read(request: Request, kinds: Collection[str], most: int) -> bytes:
  """Raises Refused: 415, another media type; 413, too large; 408, too slow."""
  kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
  if kind not in kinds:
    raise Refused(415, f"Expected Content-Type {' or '.join(kinds)}.")
  if request.headers.get("content-encoding", "identity") != "identity":
    raise Refused(415, "Expected no Content-Encoding.")
  size = request.headers.get("content-length", "0")
  if not size.isdecimal() or int(size[:20]) > most:
    raise _too_large(most)
  found = bytearray()
  try:
    async with asyncio.timeout(limits.BODY_SECONDS):
      async for part in request.stream():
        found += part
        if len(found) > most:
          raise _too_large(most)
  except TimeoutError as error:
    raise Refused(
      408,
      f"The request did not arrive within {limits.BODY_SECONDS} seconds.",
      {"Connection": "close"},
    ) from error
  return bytes(found)


def _too_large(most: int) -> Refused:
  # Closed: the rest of the body is not waited for.
  return Refused(
    413, f"It has more than {most:,} bytes, the most here.", {"Connection": "close"}
  )
