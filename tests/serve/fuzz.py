"""Malformed requests, drawn from a seed: out of the description, and worse.

Each is the bytes of one connection. Most are one change away from a request that would
be answered, for those get deepest.
"""

import io
import json
import random
import zlib

import numpy as np
from PIL import Image

from tpr_jax.serve import fields, openapi

WORDS = ["red", "green", "blue", "coat", "ü", "人", "\u0000", "\u202e", "'", '"', ";--"]
NAMES = ["camera", "path", "size", "time", "hash", "vector", "thumbnail", "nothing"]
SIGNS = ["=", "!=", "<", ">", "<=", "like", "in", "is null", "is not null", "between"]
GLUE = [
  *("and", "or", "not", "(", ")", ",", "'", "`"),
  *(";", "--", "/*", "null", "%", '"', "\\"),
]
LITERALS = [
  *("'gate'", "'%'", "'\\'", "''''", "0", "-1", "1e308", "9" * 25, "'2026-01-01'"),
  *("true", "'9999-12-31'", "'0001-01-01'", "0.5", "'\x00'", "'" + "a" * 500 + "'"),
]
PIECES = [
  *("..", ".", "%2e%2e", "..%2f", "..%5c", "%00", "~", "%", "%ff", "%c0%ae", "*", ""),
  *("etc", "passwd", "index.json", "table.csv", "secret.txt", "lance", "C:", "con"),
  *("assets", "api", "pictures", "view", "thumbnail", "images", "cam0", "000.png"),
]
METHODS = [
  *("GET", "POST", "HEAD", "get", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
  *("PATCH", "PROPFIND"),
]
METHODS += ["X" * 99, "G\x00T"]
JSON = "application/json"


class Fuzzer:
  """Args: keys: of pictures that are there, so that some requests go through."""

  def __init__(self, seed, keys):
    self.rng, self._keys = random.Random(seed), keys
    self._paths = [*openapi.document(True)["paths"], "/", "/login", "/logout"]
    self._paths += ["/assets/app.js", "/assets/{key}"]

  def request(self):
    """The bytes of a connection."""
    made = self.rng.choice(
      [self.search, self.search, self.condition, self.picture, self.path, self.path]
      + [self.heads, self.framing, self.noise]
    )
    return made()

  # --- kinds ----------------------------------------------------------------------

  def search(self):
    asked = self.asked()
    path = self.one("/api/search", "/api/search", "/api/sheet", "/api/explain")
    if path == "/api/explain":
      asked = dict(query=asked["query"], key=self.one(*self._keys, self.anything(2)))
    body = self.mangled(json.dumps(asked).encode())
    return self.whole("POST", path, body, {"Content-Type": JSON})

  def condition(self):
    parts = [self.rng.choice(NAMES), self.rng.choice(SIGNS), self.rng.choice(LITERALS)]
    for _ in range(self.rng.randint(0, 6)):
      pool = self.rng.choice([NAMES, SIGNS, LITERALS, GLUE, GLUE, WORDS])
      parts.insert(self.rng.randint(0, len(parts)), self.rng.choice(pool))
    if self.rng.random() < 0.05:
      parts = [*"(" * self.rng.randint(1, 900), *parts]
    body = json.dumps(dict(query="red", where=" ".join(parts))).encode()
    return self.whole("POST", "/api/search", body, {"Content-Type": JSON})

  def picture(self):
    kind = self.rng.choice([*openapi.PICTURES, "image/svg+xml", "text/html", JSON, ""])
    kind = self.rng.choice([kind, 'multipart/form-data; boundary="a"'])
    return self.whole("POST", "/api/pictures", self.image(), {"Content-Type": kind})

  def path(self):
    path = self.rng.choice(self._paths)
    if self.rng.random() < 0.6:
      parts = [self.rng.choice(PIECES) for _ in range(self.rng.randint(1, 7))]
      path = self.rng.choice(["/", "", path + "/", "/assets/", "/api/pictures/"])
      path += "/".join(parts)
    others = ["0" * 32, "..", "a" * 5000, "%0a", "'", "{key}"]
    key = self.rng.choice([*self._keys, *others])
    path = path.replace("{key}", key)
    if self.rng.random() < 0.2:
      path += "?" + self.rng.choice(["a=b", "key=../../x", "%00", "&" * 99, "a[]=1"])
    method = self.rng.choice(["GET", "GET", self.rng.choice(METHODS)])
    return self.whole(method, path, b"", {})

  def heads(self):
    name, value = self.rng.choice(
      [
        ("Host", self.one("evil.example.org", "", "a b", "[::", "localhost:x")),
        ("Cookie", self.one("tpr_session=x", "=" * 999, ";", "a=\x80", '"')),
        ("Authorization", self.one("Bearer", "Bearer \x80", "Basic Og==", "x")),
        ("Content-Type", self.one("", ";", "application/json; charset=x", "/")),
        ("Content-Encoding", self.one("gzip", "br", "identity", "x" * 99)),
        ("If-None-Match", self.one("*", '"', ",,,,", 'W/"', "x" * 5000)),
        ("Origin", self.one("null", "http://[", "https://evil", "", "file://")),
        ("Sec-Fetch-Site", self.one("cross-site", "none", "x")),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Upgrade", self.one("websocket", "h2c")),
        ("Expect", self.one("100-continue", "x")),
        ("Range", "bytes=0-10,20-30,-5"),
        ("X" * self.rng.randint(1, 30_000), "a" * self.rng.randint(1, 100_000)),
        ("Bad\x00Name", "a"),
        ("Folded", "a\r\n b"),
      ]
    )
    method, path, body = self.rng.choice(
      [
        ("GET", "/", b""),
        ("POST", "/api/search", json.dumps(self.asked()).encode()),
        ("GET", f"/api/pictures/{self.rng.choice(self._keys)}/thumbnail", b""),
      ]
    )
    given = {"Content-Type": JSON} if body else {}
    return self.whole(method, path, body, {**given, name: value})

  def framing(self):
    """Lengths and chunks that are not what is sent."""
    body = json.dumps(dict(query="red")).encode()
    size = self.one("-1", "0", "1", "99999", "9" * 30, "0x10", "1,2", "", " 16 ")
    lines = self.rng.choice(
      [
        [f"Content-Length: {size}"],
        ["Content-Length: 16", "Content-Length: 17"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, chunked"],
      ]
    )
    chunk = self.rng.choice(["10", "zz", "-1", "F" * 20, "10;a=b", "0", ""]).encode()
    if "chunked" in " ".join(lines) and self.rng.random() < 0.8:
      body = chunk + b"\r\n" + body + b"\r\n0\r\n\r\n"
    head = ["POST /api/search HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}"]
    head += [*lines, "Connection: close", "", ""]
    return "\r\n".join(head).encode() + body

  def noise(self):
    length = self.rng.choice([1, 30, 300, 3_000])
    data = self.rng.randbytes(length)
    begun = self.one(b"", b"GET / HTTP/1.1\r\n", b"POST /api/search HTTP/9.9\r\n")
    return begun + data + self.rng.choice([b"", b"\r\n\r\n", b"\n\n"])

  def one(self, *of):
    return self.rng.choice(of)

  # --- parts ----------------------------------------------------------------------

  def asked(self):
    found = dict(query=" ".join(self.rng.choices(WORDS, k=self.rng.randint(0, 6))))
    for name in self.rng.sample([*fields.SEARCH, "other"], self.rng.randint(0, 3)):
      found[name] = self.anything(2)
    return found

  def anything(self, deep):
    return self.rng.choice(
      [
        *(None, True, False, 0, -1, 48, 10**30, 0.5, 1e308, "", "red", "x" * 3_000),
        *("'", "\ud800", "\x00", self.rng.choice(self._keys), "A" * 22, "../x"),
        [self.anything(deep - 1)] if deep else [],
        {"a": self.anything(deep - 1)} if deep else {},
      ]
    )

  def mangled(self, body):
    act = self.rng.randint(0, 9)
    if act == 0:
      return body[: self.rng.randint(0, len(body))]
    if act == 1:
      return body.replace(b'"', b"'")
    if act == 2:
      at = self.rng.randint(0, len(body))
      return body[:at] + self.rng.randbytes(3) + body[at:]
    if act == 3:
      return b"[" * self.rng.randint(1, 60_000)
    if act == 4:
      return zlib.compress(body)
    return body

  def image(self):
    act = self.rng.randint(0, 7)
    if act == 0:
      return self.rng.randbytes(self.rng.randint(0, 2_000))
    if act == 1:  # a bomb: 4 GB of pixels in a hundred bytes
      return bomb()
    out, kind = io.BytesIO(), self.one("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
    size = self.rng.choice([(12, 6, 3), (1, 1, 3), (5, 900, 3), (40, 30, 3)])
    Image.fromarray(np.full(size, self.rng.randint(0, 255), np.uint8)).save(out, kind)
    data = bytearray(out.getvalue())
    if act <= 3:
      data = data[: self.rng.randint(0, len(data))]
    elif act <= 5:
      for _ in range(self.rng.randint(1, 8)):
        data[self.rng.randrange(len(data))] = self.rng.randint(0, 255)
    elif act == 6:
      head = b"--a\r\nContent-Disposition: form-data; name=../x\r\n\r\n"
      data = head + data + b"\r\n--a--"
    return bytes(data)

  def whole(self, method, path, body, headers):
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "Host" not in headers:
      lines.append("Host: localhost")
    if body or method == "POST":
      lines.append(f"Content-Length: {len(body)}")
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + body


def bomb():
  """A PNG that says 65,000 x 65,000 pixels."""
  chunk = b"IHDR" + (65_000).to_bytes(4) * 2 + bytes((8, 2, 0, 0, 0))
  data = (13).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
  rest = b"IDAT" + zlib.compress(bytes(10_000))
  data += (len(rest) - 4).to_bytes(4) + rest + zlib.crc32(rest).to_bytes(4)
  return b"\x89PNG\r\n\x1a\n" + data
