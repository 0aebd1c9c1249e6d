"""A headless Chromium by its own DevTools protocol, over a pipe: no port, no driver.

https://chromedevtools.github.io/devtools-protocol/: JSON messages that end with a zero
byte, read from descriptor 3 and written to descriptor 4 of the browser.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Puts the pipes where the browser expects them, by way of places that neither has.
_START = (
  "import fcntl, os, sys\n"
  "high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]\n"
  "os.dup2(high[0], 3), os.dup2(high[1], 4)\n"
  "os.execv(sys.argv[3], sys.argv[3:])"
)
_KEYS = {
  # name: (code, Windows' number, text)
  "Enter": ("Enter", 13, "\r"),
  "Tab": ("Tab", 9, ""),
  "Escape": ("Escape", 27, ""),
  "ArrowLeft": ("ArrowLeft", 37, ""),
  "ArrowRight": ("ArrowRight", 39, ""),
  "ArrowDown": ("ArrowDown", 40, ""),
  "/": ("Slash", 191, "/"),
  "s": ("KeyS", 83, "s"),
}


def found():
  """The path of an installed browser, or None."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
  """The browser said no, or nothing."""


@contextlib.contextmanager
def browser(profile):
  """A running browser with one empty page -> Page. profile: an empty folder."""
  to_read, to_write = os.pipe()
  from_read, from_write = os.pipe()
  command = [found(), "--headless=new", "--remote-debugging-pipe", "--disable-gpu"]
  command += [f"--user-data-dir={profile}", "--no-first-run", "--hide-scrollbars"]
  command += ["--disable-dev-shm-usage", "--disable-background-networking"]
  if os.geteuid() == 0:  # the sandbox needs a user
    command.append("--no-sandbox")
  process = subprocess.Popen(
    [sys.executable, "-c", _START, str(to_read), str(from_write), *command],
    pass_fds=(to_read, from_write),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read)
  os.close(from_write)
  try:
    yield Page(to_write, from_read)
  finally:
    process.terminate()
    try:
      process.wait(20)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
    os.close(to_write)
    os.close(from_read)


class Page:
  """The page of a browser.

  Attributes:
    requested: URLs of every request that it made.
    said: what it wrote to its console, errors and refusals of the CSP included.
    downloads: names of files that it began to save.
  """

  def __init__(self, to, from_):
    self._to, self._from, self._rest = to, from_, b""
    self._numbers, self._session = itertools.count(1), None
    self.requested, self.said, self.downloads = [], [], []
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
      self.call(f"{domain}.enable")

  # --- the protocol ---------------------------------------------------------------

  def call(self, method, **params):
    number = next(self._numbers)
    message = dict(id=number, method=method, params=params)
    if self._session:
      message["sessionId"] = self._session
    os.write(self._to, json.dumps(message).encode() + b"\0")
    while True:
      answer = self._message(60)
      if answer.get("id") == number:
        if "error" in answer:
          raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

  def _message(self, seconds):
    while b"\0" not in self._rest:
      if not select.select([self._from], [], [], seconds)[0]:
        raise BrowserError(f"nothing for {seconds} seconds")
      part = os.read(self._from, 1 << 16)
      if not part:
        raise BrowserError("the browser has ended")
      self._rest += part
    one, _, self._rest = self._rest.partition(b"\0")
    found = json.loads(one)
    self._note(found.get("method"), found.get("params", {}))
    return found

  def _note(self, method, params):
    if method == "Network.requestWillBeSent":
      self.requested.append(params["request"]["url"])
    elif method == "Runtime.exceptionThrown":
      self.said.append(json.dumps(params["exceptionDetails"]))
    elif method == "Runtime.consoleAPICalled":
      self.said.append(json.dumps(params["args"]))
    elif method == "Log.entryAdded":
      self.said.append(params["entry"]["text"])
    elif method == "Page.downloadWillBegin":
      self.downloads.append(params["suggestedFilename"])

  # --- what people do -------------------------------------------------------------

  def open(self, url):
    self.call("Page.navigate", url=url)

  def size(self, width, height, *, scale=1, mobile=False, dark=False):
    self.call(
      "Emulation.setDeviceMetricsOverride",
      **dict(width=width, height=height, deviceScaleFactor=scale, mobile=mobile),
    )
    scheme = dict(name="prefers-color-scheme", value="dark" if dark else "light")
    self.call("Emulation.setEmulatedMedia", features=[scheme])

  def key(self, name):
    code, number, text = _KEYS[name]
    whole = dict(key=name, code=code, windowsVirtualKeyCode=number)
    kind = "keyDown" if text else "rawKeyDown"
    self.call("Input.dispatchKeyEvent", type=kind, text=text, **whole)
    self.call("Input.dispatchKeyEvent", type="keyUp", **whole)

  def type(self, text):
    self.call("Input.insertText", text=text)

  def click(self, selector):
    """At the middle of it, with the mouse."""
    box = self.value(
      f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
      " e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
      " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
      self.call(
        "Input.dispatchMouseEvent",
        **dict(type=kind, x=box[0], y=box[1], button="left", clickCount=1),
      )

  def choose(self, selector, file):
    """Puts a file into an input."""
    root = self.call("DOM.getDocument")["root"]["nodeId"]
    node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

  def value(self, expression):
    """Of JavaScript, as JSON."""
    told = self.call(
      "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
    )
    if "exceptionDetails" in told:
      raise BrowserError(f"{expression}: {told['exceptionDetails']}")
    return told["result"].get("value")

  def text(self, selector):
    return self.value(
      f"document.querySelector({json.dumps(selector)})?.innerText ?? null"
    )

  def until(self, expression, seconds=60):
    """Waits until JavaScript is true; fails after long."""
    end, wrong = time.monotonic() + seconds, None
    while time.monotonic() < end:
      try:
        if self.value(expression):
          return
      except BrowserError as error:  # between two pages, or what is not there yet
        wrong = error
      time.sleep(0.03)
    raise BrowserError(f"never true: {expression}; {wrong}; console: {self.said}")

  def shot(self, path, *, whole=False):
    """Writes a PNG of the window, or of the whole page."""
    told = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
    path.write_bytes(base64.b64decode(told["data"]))
