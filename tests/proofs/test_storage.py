"""Whole runs at gs://, against an emulator: killed, moved, damaged, refused.

The packages are the extra `test-storage`. The real service has not been used.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import object_server
from tests.proofs import runs
from tests.several import ROOT, free_port

for package in ("gcsfs", "google.cloud.storage", "gcp_storage_emulator"):
  pytest.importorskip(package)

pytestmark = pytest.mark.proof
ADDRESS = "gs://bucket/runs/one"
TRAIN = (f"--config={runs.CONFIG}", "--config.train.steps=60")
MIRROR = "runs/gs/bucket/runs/one"
SEED = 3


@pytest.fixture
def store():
  with object_server.serve() as found:
    yield found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def straight(tmp_path_factory, cache):
  """The folder of a local run that was never stopped."""
  place = tmp_path_factory.mktemp("straight")
  done = finish(start(place, cache, None, *TRAIN, run=place / "run"))
  assert done[0] == 0, done
  return place / "run"


def start(place, cache, store, *words, run=ADDRESS):
  place.mkdir(parents=True, exist_ok=True)
  environment = dict(
    os.environ,
    PYTHONPATH=str(ROOT),
    JAX_PLATFORMS="cpu",
    XLA_FLAGS="--xla_backend_optimization_level=0",
    JAX_COMPILATION_CACHE_DIR=str(cache),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
  )
  if store:
    environment |= object_server.client_environment(store.port)
  return subprocess.Popen(
    [sys.executable, "-m", "tpr_jax.main", f"--run={run}", *words],
    cwd=place,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process, timeout=900):
  """(status, what it said)"""
  try:
    said = process.communicate(timeout=timeout)[0]
  except subprocess.TimeoutExpired:
    process.kill()
    said = f"{process.communicate()[0]}\nstill running after {timeout} s"
  return process.returncode, said


def download(store, folder):
  """What is in the bucket as a local run's folder: no library of clouds has a part."""
  start = "runs/one/"
  for name in store.names(start):
    path = folder / name.removeprefix(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(store.read(name))
  return folder


def committed(store):
  """Steps that are whole there."""
  found = store.names("runs/one/checkpoints/")
  parts = [name.split("/") for name in found if name.endswith("commit_success.txt")]
  return sorted(int(part[3]) for part in parts if len(part) == 5)


def wait_until(process, condition, timeout=900):
  began = time.monotonic()
  while not condition() and process.poll() is None:
    assert time.monotonic() - began < timeout
    time.sleep(0.01)


def test_killed_and_its_machine_lost(store, cache, straight, tmp_path, sample):
  """Each attempt in a new place: the bytes and the log of a run never stopped."""
  rng = random.Random(SEED)
  for number in range(2 if sample else 6):
    process = start(tmp_path / f"place{number}", cache, store, *TRAIN)
    before = committed(store)
    saving = number % 2

    def ready(before=before, saving=saving):
      if not saving:
        return committed(store) not in ([], before)
      # A save is on its way: it has a folder and is not whole.
      steps = {name.split("/")[3] for name in store.names("runs/one/checkpoints/")}
      return steps - {str(step) for step in committed(store)}

    wait_until(process, ready)
    time.sleep(rng.uniform(0, 0.5))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    said = finish(process)[1]
    shutil.rmtree(tmp_path / f"place{number}")
    print(f"kill {number}: alive {alive}, whole {committed(store)}", flush=True)
    assert alive or number, said
  status, said = finish(start(tmp_path / "last", cache, store, *TRAIN))
  assert status == 0 and "Resuming after step" in said, said
  found = download(store, tmp_path / "found")
  runs.assert_same_run(found, straight)
  assert runs.results(found) == runs.results(straight)
  local = {
    path.relative_to(tmp_path / "last" / MIRROR).as_posix()
    for path in (tmp_path / "last" / MIRROR).rglob("*")
    if path.is_file() and not path.name.startswith(".")
  } - {"remote.txt"}
  there = {name.removeprefix("runs/one/") for name in store.names("runs/one/")}
  mirrored = {name for name in there if "checkpoints" not in name.split("/")[0]}
  assert local == mirrored and "report.html" in mirrored


def test_everything_else_by_its_address(store, cache, straight, tmp_path, monkeypatch):
  """eval, report, inspect, export and load, each in a place of its own."""
  status, said = finish(start(tmp_path / "train", cache, store, *TRAIN))
  assert status == 0, said
  results = store.read("runs/one/results.json")
  for name in ("results.json", "report.html"):
    store.delete(f"runs/one/{name}")
  for mode, words in (
    ("eval", ()),
    ("report", ()),
    ("inspect", ()),
    ("export", ("--out=exported",)),
  ):
    place = tmp_path / mode
    status, said = finish(start(place, cache, store, f"--mode={mode}", *words))
    assert status == 0, (mode, said)
    if mode == "inspect":
      assert said.count("whole") == len(committed(store)) and "DAMAGED" not in said
  assert store.read("runs/one/results.json") == results
  assert "runs/one/report.html" in store.names()
  assert (tmp_path / "export" / "exported" / "model.safetensors").exists()

  program = (
    "import sys, numpy, tpr_jax\n"
    "model = tpr_jax.load(sys.argv[1])\n"
    "numpy.save(sys.argv[2], model.encode_texts(['a man in a red coat']))\n"
  )
  environment = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS="cpu")
  environment |= object_server.client_environment(store.port)
  for place, name in ((ADDRESS, "there"), (str(straight), "here")):
    subprocess.run(
      [sys.executable, "-c", program, place, str(tmp_path / f"{name}.npy")],
      env=environment,
      cwd=tmp_path,
      check=True,
    )
  there, here = (np.load(tmp_path / f"{name}.npy") for name in ("there", "here"))
  assert there.tobytes() == here.tobytes()


def test_a_damaged_checkpoint_is_set_aside(store, cache, straight, tmp_path):
  status, said = finish(start(tmp_path / "one", cache, store, *TRAIN))
  assert status == 0, said
  newest = committed(store)[-1]
  files = store.names(f"runs/one/checkpoints/{newest}/state/ocdbt.process_0/d/")
  store.write(files[0], store.read(files[0])[:-1])
  status, said = finish(start(tmp_path / "two", cache, store, *TRAIN))
  assert status == 0, said
  assert f"Checkpoint {newest} is not used" in said
  assert f"now {ADDRESS}/damaged_checkpoints/{newest}" in said
  found = download(store, tmp_path / "found")
  runs.assert_same_run(found, straight)
  aside = found / "damaged_checkpoints" / str(newest)
  assert (aside / "digests.json").exists()
  assert "another size" in (aside.parent / f"{newest}.txt").read_text()


@pytest.mark.parametrize("refused", ["small files", "checkpoints"])
def test_refused_while_it_trains(store, cache, straight, tmp_path, refused):
  """The run ends with a message, and the same command continues it."""
  process = start(tmp_path / "one", cache, store, *TRAIN)
  wait_until(process, lambda: len(committed(store)) > 1)

  def fail(method, name):
    apart = name.startswith("runs/one/checkpoints")
    wanted = apart == (refused == "checkpoints")
    return 403 if method == "POST" and name and wanted else None

  store.fail = fail
  status, said = finish(process)
  assert status == 1, said
  assert "error: " in said and "cannot be written" in said, said
  assert "the same command" in said.split("error: ")[1]
  store.fail = lambda method, name: None
  status, said = finish(start(tmp_path / "one", cache, store, *TRAIN))
  assert status == 0 and "Resuming after step" in said, said
  runs.assert_same_run(download(store, tmp_path / "found"), straight)


def test_a_short_failure_is_sat_out(store, cache, straight, tmp_path):
  """Every 20th request is answered 503, which each library tries again."""
  seen = []

  def fail(method, name):
    seen.append(name)
    return 503 if name and len(seen) % 20 == 0 else None

  store.fail = fail
  status, said = finish(start(tmp_path / "one", cache, store, *TRAIN))
  assert status == 0, said
  assert len(seen) > 100
  store.fail = lambda method, name: None
  runs.assert_same_run(download(store, tmp_path / "found"), straight)


@pytest.mark.parametrize("case", ["no such bucket", "forbidden", "unreachable"])
def test_a_bucket_that_cannot_be_used(store, cache, tmp_path, case):
  run = ADDRESS
  if case == "no such bucket":
    run = "gs://another/runs/one"
  elif case == "forbidden":
    store.fail = lambda method, name: 403
  else:
    store.port = 9  # nobody answers there
  process = start(tmp_path / "one", cache, store, *TRAIN, run=run)
  status, said = finish(process)
  assert status == 1 and "Traceback" not in said, said
  message = said.split("error: ")[-1]
  assert run in message and "cannot be read" in message, said
  print(case, message, flush=True)


def test_processes_without_a_common_disk(store, cache, tmp_path):
  """Two of them, each with a working copy: the bytes of two with one disk."""
  for kind, run, server in (
    ("one", tmp_path / "run", None),
    ("apart", ADDRESS, store),
  ):
    words = (*TRAIN, "--processes=2", f"--coordinator=localhost:{free_port()}")
    several = [
      start(tmp_path / f"{kind}{n}", cache, server, *words, f"--process={n}", run=run)
      for n in range(2)
    ]
    for process in several:
      status, said = finish(process)
      assert status == 0, said
  found = download(store, tmp_path / "found")
  runs.assert_same_run(found, tmp_path / "run")
  assert runs.results(found) == runs.results(tmp_path / "run")
  names = {path.name for path in (tmp_path / "apart1" / MIRROR).iterdir()}
  assert "results.json" not in names  # process 0 alone writes
