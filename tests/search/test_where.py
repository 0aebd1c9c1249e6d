"""Conditions: what they mean, and what is told about those that cannot be read."""

import pytest

from tpr_jax.search import where
from tpr_jax.search.problems import SearchError

COLUMNS = {
  "path": "text",
  "camera": "text",
  "Shop Name": "text",
  "size": "whole number",
  "speed": "number",
  "time": "time",
  "known": "yes or no",
}
T = "timestamp '2026-01-01 00:00:00.000000'"


@pytest.mark.parametrize(
  ("condition", "expected"),
  [
    ("camera='gate'", "(`camera` = 'gate')"),
    ("CAMERA == 'it''s'", "(`camera` = 'it''s')"),
    (
      "camera='gate' and time > '2026-01-01'",
      f"((`camera` = 'gate') and (`time` > {T}))",
    ),
    ("'2026-01-01' < time", f"(`time` > {T})"),
    ("time >= '2026-01-01T01:00:00+01:00'", f"(`time` >= {T})"),
    ("time between '2026-01-01' and '2026-01-01'", f"((`time` between {T} and {T}))"),
    (
      "size > 3 or size < 2 and not speed<>.5",
      "((cast(`size` as double) > 3.0) or ((cast(`size` as double) < 2.0) and"
      " (not (`speed` != 0.5))))",
    ),
    (
      "(size in (1, -2)) and `Shop Name` like 'a%'",
      "((`size` in (1, -2)) and (`Shop Name` like 'a%'))",
    ),
    ('"Shop Name" is not null', "(`Shop Name` is not null)"),
    ("camera not in ('a') and known = true", None),
    ("camera is null or size not between 1 and 2 or path not like '%x'", None),
    ("not not known != false", "(`known` != false)"),
  ],
)
def test_a_condition_becomes_sql(condition, expected):
  found = where.sql(condition, COLUMNS)
  assert expected is None or found == expected


@pytest.mark.parametrize(
  ("condition", "parts"),
  [
    ("camra = 'gate'", ["no column 'camra'", "'camera'", "Shop Name"]),
    ('camera = "gate"', ["single quotes: 'gate'"]),
    ('"gate" = camera', ["no column 'gate'", "single quotes"]),
    ("camera = gate", ["single quotes: 'gate'"]),
    ("camera = 3", ["camera is a text", "'3'"]),
    ("size = 'big'", ["size is a whole number", "a number"]),
    ("size = 99999999999999999999", ["size"]),
    ("time > '2026-13-01'", ["time is a time", "2026-01-31"]),
    ("time > 2026", ["time is a time"]),
    ("known > true", ["no order"]),
    ("known between true and false", ["no order"]),
    ("size like '1%'", ["like is for texts"]),
    ("camera = null", ["camera is null"]),
    ("camera", ["expected one of ="]),
    ("camera =", ["the end"]),
    ("camera = 'gate", ["does not end"]),
    ("camera = 'gate' camera = 'x'", ["expected and, or, or the end"]),
    ("(camera = 'gate'", ["expected ')'"]),
    ("camera in 'gate'", ["expected '('"]),
    ("1 = 1", ["not with another value"]),
    ("camera = 'a'; drop table pictures", ["';"]),
    ("", ["empty"]),
    ("(" * 60 + "size=1" + ")" * 60, ["parentheses"]),
    ("size=1 or " * 2000 + "size=1", ["characters"]),
  ],
)
def test_a_mistake_is_told(condition, parts):
  with pytest.raises(SearchError) as told:
    where.sql(condition, COLUMNS)
  for part in parts:
    assert part in str(told.value)
