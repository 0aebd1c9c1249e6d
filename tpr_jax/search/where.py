"""The words of `--where`: a small language of conditions, checked, made SQL.

  camera = 'gate' and time > '2026-01-01'
  (size >= 4000 or shop is null) and not path like 'old/%'
  camera in ('gate', 'yard') and time between '2026-01-01' and '2026-02-01'

A condition is a column, a sign and a value. Read here rather than by the store, so that
an unknown column or a wrong kind of value is told in our words before anything is
searched, and so that nothing but conditions can reach the store.
"""

import dataclasses
import datetime
import difflib
import re
from collections.abc import Mapping

from tpr_jax.search.problems import AskedError, ConditionError

KINDS = ("text", "whole number", "number", "time", "yes or no")
LONGEST, DEEPEST = 10_000, 50  # characters; parentheses within each other
_TOKEN = re.compile(
  r"""\s*(?:
    (?P<text>'(?:[^']|'')*')
  | (?P<quoted>`[^`]+`|"[^"]+")
  | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
  | (?P<name>[^\W\d]\w*)
  | (?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,)
  )""",
  re.VERBOSE,
)
_SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">"}
_SIGNS[">="] = ">="
_TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS = ("and", "or", "not", "in", "between", "like", "is", "null", "true", "false")
_LARGEST = 2**63
_EXAMPLE = "for example camera = 'gate' and time > '2026-01-01'"


@dataclasses.dataclass(frozen=True)
class _Token:
  """kind: "text", "number", "column", "word", "sign" or "end"; at: its character."""

  kind: str
  value: str
  at: int
  quote: str = ""


def sql(condition: str, columns: Mapping[str, str]) -> str:
  """The same condition in the store's SQL.

  Args:
    columns: name -> one of KINDS. Names are found whatever their case, where that
      leaves one.

  Raises:
    ConditionError: it cannot be read, names an unknown column (the nearest ones are
      told), or compares a column with a value of another kind.
    AskedError: it is too long.
  """
  return _Reader(condition, columns).all()


class _Reader:
  def __init__(self, condition: str, columns: Mapping[str, str]):
    if len(condition) > LONGEST:
      raise AskedError(
        f"--where has {len(condition):,} characters, {LONGEST:,} are the most"
      )
    self._said, self._columns = condition, columns
    self._tokens, self._place, self._depth = self._cut(), 0, 0

  def all(self) -> str:
    if self._next.kind == "end":
      raise self._wrong(f"it is empty; expected a condition, {_EXAMPLE}")
    found = self._either()
    if self._next.kind != "end":
      raise self._wrong(f"found {self._next.value!r}, expected and, or, or the end")
    return found

  # --- tokens ---------------------------------------------------------------------

  def _cut(self) -> list[_Token]:
    found, at, end = [], 0, len(self._said.rstrip())
    while at < end:
      match = _TOKEN.match(self._said, at)
      if match is None:
        rest = self._said[at:].lstrip()
        why = "a text that does not end" if rest[:1] == "'" else f"found {rest[:12]!r}"
        raise ConditionError(
          self._said, f"{why}; texts stand in single quotes, {_EXAMPLE}", at + 1
        )
      kind, value = match.lastgroup, match[match.lastgroup]
      at, start = match.end(), match.start(match.lastgroup)
      if kind == "text":
        found.append(_Token("text", value[1:-1].replace("''", "'"), start))
      elif kind == "quoted":
        found.append(_Token("column", value[1:-1], start, value[0]))
      elif kind == "name":
        low = value.lower()
        word = low in _WORDS and value not in self._columns
        found.append(
          _Token("word", low, start) if word else _Token("column", value, start)
        )
      else:
        found.append(_Token(kind, value, start))
    return [*found, _Token("end", "the end", end)]

  @property
  def _next(self) -> _Token:
    return self._tokens[self._place]

  def _take(self) -> _Token:
    token = self._next
    self._place += token.kind != "end"
    return token

  def _took(self, *values: str) -> bool:
    """Takes the next token where it is one of these words or signs."""
    fits = self._next.kind in ("word", "sign") and self._next.value in values
    self._place += fits
    return fits

  def _expect(self, value: str) -> None:
    if not self._took(value):
      raise self._wrong(f"found {self._next.value!r}, expected {value!r}")

  def _wrong(self, what: str) -> ConditionError:
    return ConditionError(self._said, what, self._next.at + 1)

  # --- conditions -----------------------------------------------------------------

  def _either(self) -> str:
    parts = [self._both()]
    while self._took("or"):
      parts.append(self._both())
    return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"

  def _both(self) -> str:
    parts = [self._unless()]
    while self._took("and"):
      parts.append(self._unless())
    return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"

  def _unless(self) -> str:
    denied = False
    while self._took("not"):
      denied = not denied
    found = self._group() if self._took("(") else self._test()
    return f"(not {found})" if denied else found

  def _group(self) -> str:
    self._depth += 1
    if self._depth > DEEPEST:
      raise self._wrong(f"more than {DEEPEST} parentheses within each other")
    found = self._either()
    self._expect(")")
    self._depth -= 1
    return found

  def _test(self) -> str:
    token = self._take()
    truth = token.kind == "word" and token.value in ("true", "false")
    if truth or token.kind in ("text", "number"):
      sign, name = self._sign(), self._take()
      if name.kind != "column":
        raise self._wrong("a value is compared with a column, not with another value")
      return self._compared(self._column(name), _TURNED[sign], token)
    if token.kind != "column":
      self._place -= token.kind != "end"
      raise self._wrong(f"found {token.value!r}, expected a column, {_EXAMPLE}")
    name = self._column(token)
    if self._took("is"):
      denied = "not " if self._took("not") else ""
      self._expect("null")
      return f"(`{name}` is {denied}null)"
    denied = "not " if self._took("not") else ""
    if self._took("in"):
      return f"(`{name}` {denied}in ({', '.join(self._list(name))}))"
    if self._took("between"):
      if self._columns[name] == "yes or no":
        raise self._wrong(f"{name} is a yes or no, which has no order")
      low = self._value(name, self._take())
      self._expect("and")
      high = self._value(name, self._take())
      return f"({denied}({self._left(name)} between {low} and {high}))"
    if self._took("like"):
      if self._columns[name] != "text":
        raise self._wrong(f"{name} is a {self._columns[name]}; like is for texts")
      return f"(`{name}` {denied}like {self._value(name, self._take())})"
    if denied:
      raise self._wrong("expected in, between or like after not")
    return self._compared(name, self._sign(), self._take())

  def _sign(self) -> str:
    token = self._take()
    if token.kind != "sign" or token.value not in _SIGNS:
      self._place -= token.kind != "end"
      raise self._wrong(
        f"found {token.value!r}, expected one of {' '.join(_SIGNS)}, in, between, like"
        " or is null"
      )
    return _SIGNS[token.value]

  def _compared(self, name: str, sign: str, token: _Token) -> str:
    if self._columns[name] == "yes or no" and sign not in ("=", "!="):
      raise self._wrong(f"{name} is a yes or no, which has no order: write = or !=")
    return f"({self._left(name)} {sign} {self._value(name, token)})"

  def _list(self, name: str) -> list[str]:
    self._expect("(")
    found = [self._value(name, self._take())]
    while self._took(","):
      found.append(self._value(name, self._take()))
    self._expect(")")
    return found

  # --- columns and values ---------------------------------------------------------

  def _column(self, token: _Token) -> str:
    if token.value in self._columns:
      return token.value
    alike = [name for name in self._columns if name.lower() == token.value.lower()]
    if len(alike) == 1:
      return alike[0]
    near = difflib.get_close_matches(token.value, self._columns, 2, cutoff=0.5)
    guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if token.quote == '"':
      guess += f" (A text stands in single quotes: '{token.value}'.)"
    raise ConditionError(
      self._said,
      f"there is no column {token.value!r}.{guess} The index has"
      f" {', '.join(self._columns)}",
      token.at + 1,
    )

  def _left(self, name: str) -> str:
    # A whole number may be compared with 0.5: both as floating point, then.
    whole = self._columns[name] == "whole number"
    return f"cast(`{name}` as double)" if whole and self._broken_ahead else f"`{name}`"

  @property
  def _broken_ahead(self) -> bool:
    """Is there any number that is not whole? (Then none is compared as whole.)"""
    return any(
      token.kind == "number" and not re.fullmatch(r"[-+]?\d+", token.value)
      for token in self._tokens
    )

  def _value(self, name: str, token: _Token) -> str:
    kind = self._columns[name]
    if token.value == "null" and token.kind == "word":
      raise self._wrong(f"write {name} is null, or {name} is not null")
    if token.kind == "column":
      raise self._wrong(
        f"found {token.value!r}, expected a value for {name}; a text stands in single"
        f" quotes: '{token.value}'"
      )
    if kind == "text" and token.kind == "text":
      return "'" + token.value.replace("'", "''") + "'"
    if kind == "time" and token.kind == "text":
      return self._time(name, token.value)
    if kind == "yes or no" and token.value in ("true", "false"):
      return token.value
    if kind == "number" and token.kind == "number":
      return f"{float(token.value)!r}"
    if kind == "whole number" and token.kind == "number":
      if self._broken_ahead:
        return f"{float(token.value)!r}"
      if abs(int(token.value)) < _LARGEST:
        return str(int(token.value))
    wanted = {
      "text": "a text in single quotes",
      "time": "a time in single quotes, as '2026-01-31' or '2026-01-31 13:45:00'",
      "yes or no": "true or false",
    }.get(kind, "a number")
    raise self._wrong(f"{name} is a {kind}: found {token.value!r}, expected {wanted}")

  def _time(self, name: str, value: str) -> str:
    try:
      found = datetime.datetime.fromisoformat(value.strip())
    except ValueError as error:
      raise self._wrong(
        f"{name} is a time: found {value!r}, expected '2026-01-31' or"
        f" '2026-01-31 13:45:00' ({error})"
      ) from error
    if found.tzinfo is not None:
      found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    return f"timestamp '{found.isoformat(' ', 'microseconds')}'"
