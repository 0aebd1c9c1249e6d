"""Stand-ins: a clock without waits, a set of pictures, an endpoint that misbehaves."""

import contextlib
import http.server
import json
import threading
import time

from tests.data import layouts
from tpr_jax import config as configs
from tpr_jax.curate import problems, requests, settings


class Clock:
  """Time passes in sleep alone."""

  def __init__(self):
    self.time, self.slept, self._lock = 0.0, [], threading.Lock()

  def now(self):
    return self.time

  def sleep(self, seconds, stop):
    if stop.is_set():
      raise problems.Stopped
    with self._lock:
      self.slept.append(seconds)
      self.time += seconds


def config(*overrides, value="configs/cross.py"):
  """The locked config of a command line."""
  configs.expose_shipped()
  name, colon, argument = value.partition(":")
  return configs.overridden(f"{configs.resolve(name)}{colon}{argument}", overrides)


def rewriter(url="http://127.0.0.1:9/v1", **changes):
  """Settings of one endpoint; short waits."""
  words = [f"rewriters.first.base_url={url}", "rewriters.first.model=tiny"]
  given = dict(timeout=5.0, max_retries=3) | changes
  words += [f"rewriters.first.{key}={value}" for key, value in given.items()]
  return settings.read(config("rewrites=1", *words)).rewriters[0]


def request(caption="A man in a red coat.", style="reorganised", **changes):
  """One request of `rewriter()`."""
  made = rewriter(**changes)
  sampling = made.sampling(0)
  return requests.Request(
    key=requests.key_of(caption, style, made.model, sampling, 0),
    rewriter=made.key,
    model=made.model,
    style=style,
    caption=caption,
    sampling=sampling,
    messages=({"role": "user", "content": caption},),
  )


TEXTS = (
  "A man in a red coat and black boots is walking with a brown bag on his back.",
  "A woman in a white dress and grey sandals is looking at the phone in her hand.",
  "A boy in a blue cap and green shorts is waiting beside a wall with an umbrella.",
)


def people(root, name="ICFG-PEDES", count=4, first=0):
  """A set in ICFG-PEDES's layout: two pictures of each of `count` test people."""
  entries = [
    {
      "split": "test",
      "captions": [f"{TEXTS[i % 3][:-1]}, number {first + i}{view}."],
      "file_path": f"test/{i:04d}_{view}.jpg",
      "id": 10 * i,
    }
    for i in range(count)
    for view in range(2)
  ]
  return layouts.write(root / name, "ICFG-PEDES.json", entries, "imgs")


def said(text, finish="stop", model="tiny-1"):
  """A chat completion."""
  message = {"role": "assistant", "content": text}
  return {"model": model, "choices": [{"message": message, "finish_reason": finish}]}


def good(payload):
  """An answer that no check objects to: the caption's clauses, told otherwise."""
  caption = payload["messages"][-1]["content"].rpartition("Description:\n")[2]
  asked = payload["messages"][-1]["content"].partition(" ")[2][:12]
  return said(f"In this one, {caption[0].lower()}{caption[1:]} ({asked})")


def other(payload):
  """The same in other words."""
  text = good(payload)["choices"][0]["message"]["content"]
  return said(text.replace("In this one", "Here and now"))


class Server:
  """An OpenAI-compatible endpoint on a free port, of this process.

  Args:
    script: what each request gets in turn, then `rest`: a dict (200), a (status, body,
      headers), bytes (sent as they are, then closed), or a callable of the payload.
    delay: seconds before each answer.
  """

  def __init__(self, *script, delay=0.0, rest=good):
    self.script, self.delay, self.rest = list(script), delay, rest
    self.payloads, self.headers, self.paths = [], [], []
    self.released = threading.Event()  # lets hanging answers end
    self._lock = threading.Lock()

  @property
  def url(self):
    return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

  def __enter__(self):
    outer = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        outer._answer(self)

      def log_message(self, *_):
        pass

    self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._http.daemon_threads = True
    threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
    return self

  def __exit__(self, *_):
    self.released.set()
    self._http.shutdown()
    self._http.server_close()

  def _answer(self, handler):
    payload = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
    with self._lock:
      self.payloads.append(payload)
      self.headers.append(dict(handler.headers))
      self.paths.append(handler.path)
      step = self.script.pop(0) if self.script else self.rest
    time.sleep(self.delay)
    with contextlib.suppress(OSError):
      step(handler, self) if step in MISBEHAVIOURS else _send(handler, step, payload)


def _send(handler, step, payload):
  step = step(payload) if callable(step) else step
  if isinstance(step, bytes):
    handler.wfile.write(step)
    return
  status, body, headers = step if isinstance(step, tuple) else (200, step, {})
  data = body if isinstance(body, bytes) else json.dumps(body).encode()
  handler.send_response(status)
  for name, value in {"Content-Length": str(len(data)), **headers}.items():
    handler.send_header(name, value)
  handler.end_headers()
  handler.wfile.write(data)


def hang(handler, server):
  """Never answers."""
  server.released.wait(30)


def drip(handler, server):
  """A byte now and then, which no time-out of single reads would end."""
  handler.send_response(200)
  handler.send_header("Content-Length", "100000")
  handler.end_headers()
  while not server.released.wait(0.05):
    handler.wfile.write(b" ")
    handler.wfile.flush()


def drip_headers(handler, server):
  """The same before the body."""
  handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
  while not server.released.wait(0.05):
    handler.wfile.write(b"x")
    handler.wfile.flush()


MISBEHAVIOURS = (hang, drip, drip_headers)


def error(status, message="busy", code=None, **headers):
  """An error in OpenAI's form."""
  headers = {name.replace("_", "-"): value for name, value in headers.items()}
  return status, {"error": {"message": message, "code": code}}, headers
