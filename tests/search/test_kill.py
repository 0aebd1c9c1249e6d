"""Killed at random moments, and read while it is written."""

import os
import pathlib
import random
import signal
import subprocess
import sys

from tests.search import place
from tests.search.test_index import rows

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Each takes seconds, to start a process; TPR_JAX_KILLS=20 for more of them.
KILLS = int(os.environ.get("TPR_JAX_KILLS", "3"))


def test_an_index_survives_kills(tmp_path):
  images = place.folder(tmp_path / "images", 90)
  drawn, killed = random.Random(5), 0
  for number in range(KILLS):
    seconds = drawn.uniform(0.02, 0.12)  # a fast machine needs 0.2 for all of it
    done = subprocess.run(
      [
        *(sys.executable, "-m", "tests.search.child"),
        *(str(images), str(tmp_path / "index"), f"{seconds:.3f}"),
      ],
      cwd=ROOT,
      env={**os.environ, "PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
      timeout=1200,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    killed += done.returncode != 0
    # What is there opens, is whole, and has no picture twice.
    index = place.opened(tmp_path / "index")
    seen = len(rows(tmp_path / "index"))
    assert len(index) == seen == len(index.search("red", top=1000).hits)
    # Meanwhile the folder changes.
    place.write(images / f"new{number}.png", "green", 1000 + number)
    (images / "cam0" / f"{2 * number:03}.png").unlink()
    (images / "cam1" / f"{2 * number + 1:03}.png").rename(images / f"m{number}.png")
  assert killed
  place.index(images, tmp_path / "index")
  place.index(images, tmp_path / "straight")
  names = ("hash", "size", "width", "height", "time", "thumbnail", "vector")
  found, straight = (rows(tmp_path / n, names) for n in ("index", "straight"))
  assert len(found) == 90 and found == straight


def test_a_reader_beside_a_writer(tmp_path):
  images = place.folder(tmp_path / "images", 60)
  place.index(images, tmp_path / "index")
  for i in range(40):
    place.write(images / f"later{i:02}.png", "blue", 500 + i)
  writer = subprocess.Popen(
    [
      *(sys.executable, "-m", "tests.search.child"),
      *(str(images), str(tmp_path / "index"), "60"),
    ],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  index, sizes = place.opened(tmp_path / "index"), set()
  while writer.poll() is None:
    index.refresh()
    answer = index.search("blue", top=1000, where="size > 0")
    assert len(answer.hits) == answer.searched == answer.total >= 60
    sizes.add(answer.total)
  assert writer.returncode == 0
  index.refresh()
  assert len(index) == 100 and sizes
