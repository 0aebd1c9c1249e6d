"""A search's fields: what is refused is what /openapi.json forbids."""

import json
import random

import jsonschema
import pytest

from tpr_jax.serve import fields, limits, openapi
from tpr_jax.serve.problems import Refused

KEY = "0123456789abcdef" * 2
VALUES = [
  *("", " ", "a red coat", "x" * 2000, "x" * 2001, KEY, KEY.upper(), KEY[1:]),
  *("A" * 22, "-_" * 11, "A" * 21),
  *(0, 1, -1, 48, 200, 201, 9_999, 10_000, 1.0, 3.5, 0.5, 1e-9, 1 - 1e-9, 1e300, -0.0),
  *(True, False, None, [], {}, ["red"]),
]


def parsed(value):
  return fields.parse(json.dumps(value).encode())


@pytest.mark.parametrize("seed", range(8))
def test_fields_are_refused_as_described(seed):
  rng = random.Random(seed)
  schema = openapi.document(False)["components"]["schemas"]["Search"]
  validator = jsonschema.Draft202012Validator(schema)
  names, seen = [*fields.SEARCH, "other", ""], set()
  for _ in range(600):
    one = {rng.choice(names): rng.choice(VALUES) for _ in range(rng.randint(0, 3))}
    if rng.random() < 0.5:
      one["query"] = "red"
    described = validator.is_valid(one)
    try:
      found = parsed(one)
    except Refused as refused:
      assert refused.status == 422
      # Two rules that a schema cannot say are said in its descriptions.
      given = {"like", "upload"} & set(one)
      blank = described and not given and not one["query"].strip()
      deep = described and one.get("skip", 0) + limits.TOP_MOST > limits.DEEPEST
      assert not described or blank or deep, one
      seen.add("refused")
    else:
      assert described, one
      assert {**found, **one} == found
      seen.add("taken")
  assert seen == {"refused", "taken"}


def test_a_line_after_a_key_is_no_key():
  # Python's own $ would take it; that of JSON Schema does not.
  with pytest.raises(Refused):
    parsed(dict(like=KEY + "\n"))


def test_defaults():
  found = parsed(dict(query="red"))
  assert (found["top"], found["skip"], found["image_weight"]) == (limits.TOP, 0, 0.5)


@pytest.mark.parametrize(
  "body",
  [
    b"",
    b"{",
    b"\xff{}",
    b"[]",
    b"null",
    b'"red"',
    b'{"query": NaN}',
    b'{"top": Infinity}',
    b'{"top": ' + b"9" * 5000 + b"}",
    b"[" * 60_000,
    b'{"query": "red"} x',
    "{}".encode("utf-16"),
  ],
)
def test_what_is_no_json_object(body):
  with pytest.raises(Refused) as told:
    fields.parse(body)
  assert told.value.status == 400


def test_half_a_character_is_refused():
  with pytest.raises(Refused) as told:
    fields.parse(b'{"query": "red \\ud800"}')
  assert told.value.status == 422
