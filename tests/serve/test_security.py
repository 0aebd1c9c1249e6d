"""Who is let in: hosts, origins, tokens, cookies; what is never given away."""

import io
import json
import urllib.parse

import pytest
from PIL import Image

from tests.search import place as searching
from tests.serve import place
from tpr_jax.serve import openapi, security, tokens

JSON = "application/json"
GUARDED = [
  ("GET", "/api/index"),
  ("POST", "/api/search"),
  ("POST", "/api/sheet"),
  ("POST", "/api/explain"),
  ("POST", "/api/pictures"),
  ("GET", f"/api/pictures/{'0' * 32}/thumbnail"),
  ("GET", f"/api/pictures/{'0' * 32}/view"),
  ("GET", f"/api/pictures/{'0' * 32}/frame"),
]


def test_every_answer_has_the_headers(client):
  paths = ["/", "/assets/app.js", "/openapi.json", "/api/index", "/nothing", "/login"]
  answers = [client.get(path) for path in paths]
  answers.append(client.ask("PUT", "/api/search", b"{}"))
  answers.append(client.get("/", Host="evil.example.org"))
  answers.append(client.post("/api/search", b"{"))
  for answer in answers:
    for name in security.HEADERS:
      assert name in answer.headers, (name, answer)
    policy = answer.headers["Content-Security-Policy"]
    assert "'unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers
  malformed = place.raw(client.port, b"nonsense\r\n\r\n")
  assert malformed.startswith(b"HTTP/1.1 400")
  assert b"Content-Security-Policy" in malformed


def test_the_page_asks_nothing_of_others(client):
  page = client.get("/").body.decode()
  assert "http:" not in page and "https:" not in page and "<style" not in page
  assert "onclick" not in page and page.count("<script") == 1
  scripts = ("app", "api", "words", "viewer", "filter", "heat")
  for name in (*(f"{each}.js" for each in scripts), "style.css"):
    text = client.get(f"/assets/{name}").body.decode()
    assert "//" not in text.replace("// ", "").replace("//\n", ""), name
    assert "innerHTML" not in text and "eval(" not in text and "url(" not in text


@pytest.mark.parametrize(
  ("host", "status"),
  [
    ("localhost", 200),
    ("LOCALHOST:8000", 200),
    ("127.0.0.1:1", 200),
    ("[::1]:8000", 200),
    ("evil.example.org", 421),
    ("localhost.evil.example.org", 421),
    ("127.0.0.1.nip.io", 421),
    ("evil@localhost:8000", 200),  # whoever is named before the host, it is ours
    ("localhost@evil.example.org", 421),
    ("", 421),
    ("[", 421),
  ],
)
def test_a_page_whose_name_points_here_gets_nothing(client, host, status):
  assert client.get("/api/index", Host=host).status == status


def test_one_host_is_needed(client):
  for head in (b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"):
    assert place.raw(client.port, head + b"\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
  ("headers", "status"),
  [
    ({}, 200),
    ({"Origin": "http://127.0.0.1:{port}"}, 200),
    ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "http://evil.example.org"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://["}, 403),
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
  ],
)
def test_other_sites_cannot_post(client, headers, status):
  given = {k: v.format(port=client.port) for k, v in headers.items()}
  answer = client.ask(
    "POST", "/api/search", '{"query": "red"}', {"Content-Type": JSON, **given}
  )
  assert answer.status == status


def test_a_form_of_another_site_is_no_search(client):
  forms = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
  for kind in forms:
    answer = client.post("/api/search", '{"query": "red"}', Content_Type=kind)
    assert answer.status == 415


# --- tokens


@pytest.fixture(scope="module")
def guarded(folder):
  """A client without a token of a server that asks for one, and its audit."""
  known = (tokens.named("anna", place.TOKEN), tokens.named("ben", place.TOKEN[::-1]))
  audit = folder / "audit.jsonl"
  given = dict(tokens=known, hosts=None, audit=audit)
  with place.served(folder / "index", **given) as port:
    yield place.Client(port), audit


def lines(audit):
  return [json.loads(line) for line in audit.read_text().splitlines()]


def test_all_of_the_api_is_guarded(guarded):
  client, _ = guarded
  described = {
    (method.upper(), path.replace("{key}", "0" * 32))
    for path, operations in openapi.document(True)["paths"].items()
    for method, told in operations.items()
    if method in ("get", "post") and told.get("security") != []
  }
  assert described == set(GUARDED)
  for method, path in GUARDED:
    for headers in (
      {},
      {"Authorization": f"Bearer {place.TOKEN[:-1]}"},
      {"Authorization": f"Basic {place.TOKEN}"},
      {"Authorization": "Bearer"},
      {"Cookie": f"{security.COOKIE}={place.TOKEN}"},
      {"Cookie": f"{security.COOKIE}="},
      {"Cookie": "=;=\x7f"},
    ):
      answer = client.ask(method, path, None, headers)
      assert answer.status == 401, (path, headers)
      assert answer.headers["WWW-Authenticate"] == "Bearer"
  assert client.get("/").headers["Location"] == "/login"
  assert client.get("/health").status == 200


def test_a_token_opens_it_and_the_audit_says_whose(guarded):
  client, audit = guarded
  headers = {"Authorization": f"bearer {place.TOKEN[::-1]}"}
  own = place.Client(client.port, headers)
  key = own.search("blue", where="camera = 'gate'", top=2)["hits"][0]["key"]
  assert own.get("/api/index").json()["who"] == "ben"
  own.get(f"/api/pictures/{key}/view")
  search, view = lines(audit)[-2:]
  assert (search["act"], search["who"], search["query"]) == ("search", "ben", "blue")
  assert search["where"] == "camera = 'gate'" and search["found"] == 2
  assert search["first"][0] == "cam0/002.png" and search["address"] == "127.0.0.1"
  assert (view["act"], view["path"]) == ("view", "cam0/002.png")
  assert audit.stat().st_mode & 0o777 == 0o600
  assert place.TOKEN[::-1] not in audit.read_text()


def form(token):
  body = urllib.parse.urlencode(dict(token=token))
  return body, {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_browser_logs_in_and_out(guarded):
  client, audit = guarded
  wrong = client.ask("POST", "/login", *form("no"))
  assert wrong.status == 401 and b"not a token" in wrong.body
  assert "Set-Cookie" not in wrong.headers
  assert lines(audit)[-1]["act"] == "login refused"
  body, kind = form(place.TOKEN)
  other = client.ask("POST", "/login", body, {**kind, "Origin": "http://a.org"})
  assert other.status == 403
  right = client.ask("POST", "/login", body, kind)
  assert right.status == 303 and right.headers["Location"] == "/"
  cookie, *options = right.headers["Set-Cookie"].split("; ")
  assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(options)
  assert "Secure" not in options and place.TOKEN not in cookie
  own = place.Client(client.port, {"Cookie": cookie})
  assert own.get("/").status == 200 and own.search("red")["total"] == 6
  assert own.get("/login").headers["Location"] == "/"
  # Behind something with TLS, the cookie goes nowhere else.
  secure = {**kind, "Origin": f"https://127.0.0.1:{client.port}"}
  again = client.ask("POST", "/login", body, secure)
  assert "Secure" in again.headers["Set-Cookie"]
  assert own.ask("POST", "/logout").status == 303
  assert own.get("/api/index").status == 401


def test_without_its_audit_nothing_is_searched(folder, tmp_path, capsys):
  audit = tmp_path / "log" / "audit.jsonl"
  audit.parent.mkdir()
  with place.served(folder / "index", audit=audit) as port:
    client = place.Client(port)
    client.search("red")
    audit.unlink()
    audit.mkdir()  # it cannot be written any more
    assert client.post("/api/search", dict(query="red")).status == 503
    audit.rmdir()
    client.search("red")
    assert len(lines(audit)) == 1


def test_the_log_has_no_word_of_what_was_searched(folder, capfd):
  with place.served(folder / "index") as port:
    client = place.Client(port)
    client.search("green", where="camera = 'yard'")
    client.post("/api/search", dict(query="green", where="yard!"))
    client.get("/api/index?query=green")
    client.get("/nothing%0a2026%20forged")
  told = capfd.readouterr()
  said = told.out + told.err
  assert "POST /api/search 200" in said and "POST /api/search 422" in said
  assert "green" not in said and "yard" not in said
  assert "/nothing\\n2026 forged 404" in said


# --- files


@pytest.mark.parametrize(
  "path",
  [
    "/assets/../app.py",
    "/assets/..%2fapp.py",
    "/assets/%2e%2e/app.py",
    "/assets/..%5capp.py",
    "/assets//etc/passwd",
    "/assets/%2fetc%2fpasswd",
    "/assets/app.js%00.css",
    "/assets/",
    "/api/pictures/..%2f..%2fetc%2fpasswd/view",
    "/api/pictures/cam0%2f000.png/view",
    "/api/pictures/../../table.csv",
    "//etc/passwd",
    "/index.html",
    "/page/index.html",
  ],
)
def test_only_what_is_served_can_be_reached(client, path):
  assert client.get(path).status == 404


def test_a_file_that_is_another_by_now_is_not_shown(tmp_path):
  images = searching.folder(tmp_path / "images", 3)
  secret = searching.write(tmp_path / "secret.png", "green", 77)
  link = images / "linked.png"
  link.symlink_to(searching.write(tmp_path / "elsewhere.png", "blue", 50))
  searching.index(images, tmp_path / "index")
  with place.served(tmp_path / "index") as port:
    client = place.Client(port)
    hits = {hit["path"]: hit["key"] for hit in client.search("blue")["hits"]}
    view = lambda path: client.get(f"/api/pictures/{hits[path]}/view").status
    assert view("linked.png") == 200  # the indexer follows links: this is the index's
    link.unlink()
    link.symlink_to(secret)
    assert view("linked.png") == 404
    (images / "cam0" / "000.png").unlink()
    (images / "cam0" / "000.png").symlink_to("/etc/passwd")
    assert view("cam0/000.png") == 404
    folder = images / "cam1"
    folder.rename(tmp_path / "moved")
    (tmp_path / "other").mkdir()
    searching.write(tmp_path / "other" / "001.png", "red", 99)
    folder.symlink_to(tmp_path / "other")
    assert view("cam1/001.png") == 404
    assert client.get(f"/api/pictures/{hits['cam1/001.png']}/thumbnail").status == 200


def test_what_a_camera_wrote_beside_the_pixels_stays_here(tmp_path):
  images = tmp_path / "images"
  images.mkdir()
  exif = Image.Exif()
  exif[0x010F] = "the maker of this camera"
  Image.fromarray(searching.pixels()).save(images / "a.jpg", exif=exif)
  assert b"maker" in (images / "a.jpg").read_bytes()
  searching.index(images, tmp_path / "index")
  with place.served(tmp_path / "index") as port:
    client = place.Client(port)
    key = client.search("red")["hits"][0]["key"]
    for name in ("view", "thumbnail"):
      body = client.get(f"/api/pictures/{key}/{name}").body
      assert b"maker" not in body
      with Image.open(io.BytesIO(body)) as found:
        assert not found.getexif()
