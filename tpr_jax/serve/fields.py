"""The fields of a search: described once, for /openapi.json and for the check."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tpr_jax.search.settings import FALSE_ALARMS, RERANKED
from tpr_jax.serve import limits
from tpr_jax.serve.problems import Refused

KEY = "[0-9a-f]{32}"
SEARCH: dict[str, dict[str, Any]] = {
  "query": dict(
    type="string",
    maxLength=limits.QUERY,
    description="A sentence about a person. White space alone is no sentence.",
  ),
  "like": dict(
    type="string",
    pattern=f"^{KEY}$",
    description="The key of a picture of the index, to search by it.",
  ),
  "upload": dict(
    type="string",
    pattern="^[A-Za-z0-9_-]{22}$",
    description="A picture that was given to /api/pictures, to search by it.",
  ),
  "image_weight": dict(
    type="number",
    exclusiveMinimum=0,
    exclusiveMaximum=1,
    default=0.5,
    description="Of a sentence and a picture, the share of the picture.",
  ),
  "false_alarms": dict(
    type="number",
    exclusiveMinimum=0,
    exclusiveMaximum=1,
    default=FALSE_ALARMS,
    description="Of sentences about people who are not there, the share that may be"
    " told that somebody matches.",
  ),
  "rerank": dict(
    type="integer",
    minimum=0,
    maximum=RERANKED,
    default=0,
    description="So many of the first results are ordered again by the index's second"
    " stage, where it has one (`second_stage` of /api/index), for words alone.",
  ),
  "where": dict(
    type="string",
    maxLength=limits.WHERE,
    description="A condition: camera = 'gate' and time > '2026-01-01'.",
  ),
  "top": dict(
    type="integer",
    minimum=1,
    maximum=limits.TOP_MOST,
    default=limits.TOP,
    description="Results of this page.",
  ),
  "skip": dict(
    type="integer",
    minimum=0,
    maximum=limits.DEEPEST - 1,
    default=0,
    description=f"Results before this page; with `top`, {limits.DEEPEST:,} at most.",
  ),
  "version": dict(
    type="integer",
    minimum=0,
    description="The version that the answer must be of; another one is told by 409.",
  ),
}
EXPLAIN: dict[str, dict[str, Any]] = {
  "query": dict(SEARCH["query"], minLength=1, description="A sentence."),
  "key": dict(SEARCH["like"], description="The key of a picture of the index."),
}
_KINDS = dict(string="a text", number="a number", integer="a whole number")


def parse(body: bytes) -> dict[str, Any]:
  """The fields of a search's JSON, with their defaults.

  Raises:
    Refused: 400, it is no JSON object; 422, a field is not as described.
  """
  found = _fields(body, SEARCH)
  defaults = {k: v["default"] for k, v in SEARCH.items() if "default" in v}
  found = defaults | found
  if "like" in found and "upload" in found:
    raise Refused(422, "`like` and `upload` are two pictures: give one of them.")
  if not found.get("query", "").strip() and not {"like", "upload"} & set(found):
    raise Refused(422, "A search needs words or a picture: query, like or upload.")
  if found["skip"] + found["top"] > limits.DEEPEST:
    raise Refused(
      422, f"skip + top is above {limits.DEEPEST:,}, the most results of a search."
    )
  return found


def explaining(body: bytes) -> dict[str, Any]:
  """The fields of EXPLAIN, both of them. Raises Refused as `parse`."""
  found = _fields(body, EXPLAIN)
  if "key" not in found or not found.get("query", "").strip():
    raise Refused(422, "Expected words and a picture of the index: query and key.")
  return found


def _fields(body: bytes, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  try:
    found = json.loads(body.decode("utf-8"), parse_constant=_no_number)
  except (ValueError, RecursionError) as error:
    raise Refused(400, f"The request is no JSON in UTF-8: {error}") from error
  if not isinstance(found, dict):
    raise Refused(400, "The request is no JSON object: {...}")
  for name, value in found.items():
    if name not in rules:
      raise Refused(
        422, f"There is no field {name[:40]!r}; there are {', '.join(rules)}."
      )
    _check(name, value, rules[name])
  return found


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
  """Raises Refused (422) where a value is not as its rule says."""
  kind = rule["type"]
  fits = {
    "string": isinstance(value, str),
    "integer": isinstance(value, int) and not isinstance(value, bool),
    "number": isinstance(value, int | float) and not isinstance(value, bool),
  }[kind]
  if kind == "integer" and isinstance(value, float):  # 3.0 is one, in JSON Schema
    fits = value.is_integer()
  if not fits:
    raise Refused(422, f"`{name}`: expected {_KINDS[kind]}.")
  if kind == "string":
    _check_text(name, value, rule)
    return
  low, high = rule.get("minimum"), rule.get("maximum")
  above, below = rule.get("exclusiveMinimum"), rule.get("exclusiveMaximum")
  for wrong, what in (
    (low is not None and value < low, f"{low} at least"),
    (high is not None and value > high, f"{high} at most"),
    (above is not None and value <= above, f"more than {above}"),
    (below is not None and value >= below, f"less than {below}"),
  ):
    if wrong:
      raise Refused(422, f"`{name}`: expected {what}.")


def _check_text(name: str, value: str, rule: Mapping[str, Any]) -> None:
  most = rule.get("maxLength", math.inf)
  if len(value) > most:
    raise Refused(
      422, f"`{name}` has {len(value):,} characters; {most:,} are the most."
    )
  if "pattern" in rule and not re.search(rule["pattern"].replace("$", r"\Z"), value):
    raise Refused(422, f"`{name}`: expected what this server has given.")
  try:
    value.encode("utf-8")
  except UnicodeEncodeError as error:
    raise Refused(422, f"`{name}` holds half a character: {error.reason}.") from error


def _no_number(word: str) -> None:
  raise ValueError(f"{word} is no number of JSON")
