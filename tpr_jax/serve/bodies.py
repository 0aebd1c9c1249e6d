"""The body of a request, whole or refused: never more of it than allowed in memory."""

import asyncio
from collections.abc import Collection

from starlette.requests import Request

from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused

# A client that is cut off while it sends may never read why: so much of what is too
# large is heard out, and thrown away.
_HEARD = 4


async def read(request: Request, kinds: Collection[str], most: int) -> bytes:
  """Raises Refused: 415, another media type; 413, too large; 408, too slow."""
  kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
  if kind not in kinds:
    raise Refused(415, f"Expected Content-Type {' or '.join(kinds)}.")
  if request.headers.get("content-encoding", "identity") != "identity":
    raise Refused(415, "Expected no Content-Encoding.")
  size = request.headers.get("content-length", "0")
  if not size.isdecimal() or int(size[:20]) > _HEARD * most:
    raise _too_large(most)
  found, heard = bytearray(), 0
  try:
    async with asyncio.timeout(limits.BODY_SECONDS):
      async for part in request.stream():
        heard += len(part)
        if heard <= most:
          found += part
        elif heard > _HEARD * most:
          raise _too_large(most)
  except TimeoutError as error:
    raise Refused(
      408,
      f"The request did not arrive within {limits.BODY_SECONDS} seconds.",
      {"Connection": "close"},
    ) from error
  if heard > most:
    raise _too_large(most)
  return bytes(found)


def _too_large(most: int) -> Refused:
  # Closed: what is left of the body is not waited for.
  return Refused(
    413, f"It has more than {most:,} bytes, the most here.", {"Connection": "close"}
  )
