"""The command itself, with real, if untrained, towers; and with TLS."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request

import pytest

from tests import command
from tests.export import models
from tests.search import place as searching
from tests.serve import place
from tpr_jax.export import huggingface


def test_flags_that_would_do_nothing_are_told(tmp_path):
  for words, part in (
    (["--mode=serve"], "needs --index=DIR"),
    (["--mode=serve", "--index=x", "--query=red"], "--query is for --mode=search"),
    (["--mode=search", "--index=x", "--port=1"], "--port is for --mode=serve"),
    (["--mode=serve", "--index=x", "--config=configs/cfam.py"], "takes no --config"),
    (["--mode=serve", "--index=nothing"], "nothing holds no index"),
  ):
    done = command.run(tmp_path, *words)
    assert done.returncode == 1 and part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_a_converted_clip_until_it_is_stopped(tmp_path):
  model = models.random()
  (tmp_path / "clip").mkdir()
  huggingface.write(model, tmp_path / "clip")
  images = searching.folder(tmp_path / "images", 3)
  made = command.run(
    tmp_path, "--mode=index", "--run=clip", "--images=images", "--index=index"
  )
  assert made.returncode == 0, made.stderr
  server = subprocess.Popen(
    [sys.executable, "-m", "tpr_jax.main", "--mode=serve", "--index=index", "--port=0"],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(command.ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    line = server.stdout.readline()
    port = int(re.search(r"at http://127\.0\.0\.1:(\d+)", line)[1])
    client = place.Client(port)
    hits = client.search("a woman in a red coat")["hits"]
    given = client.give((images / "cam0" / "000.png").read_bytes()).json()["upload"]
    like = client.search(upload=given)["hits"][0]
  finally:
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=60)
  assert server.returncode == 0 and "Stopped." in out, err
  assert "POST /api/search 200" in err and "red" not in err
  text = model.encode_texts(["a woman in a red coat"])[0]
  rows = model.encode_images([images / hit["path"] for hit in hits])
  for hit, row in zip(hits, rows, strict=True):
    assert abs(hit["score"] - row @ text) < 1e-5
  assert like["path"] == "cam0/000.png" and abs(like["score"] - 1) < 1e-5


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_tls(folder, tmp_path):
  made = tmp_path / "cert.pem", tmp_path / "key.pem"
  subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    + ["-out", str(made[0]), "-keyout", str(made[1])],
    check=True,
    capture_output=True,
  )
  with place.served(folder / "index", tls=made) as port:
    context = ssl.create_default_context(cafile=str(made[0]))
    address = f"https://localhost:{port}/health"
    with urllib.request.urlopen(address, context=context, timeout=60) as answer:
      assert answer.status == 200
    # Plain HTTP gets nothing.
    assert b"200" not in place.raw(port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
