"""Files that are no pictures of people: refused at once, by name, with their kind."""

import os
import pathlib
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.data import bombs
from tpr_jax.data import check_images, images
from tpr_jax.data.damage import KINDS
from tpr_jax.data.images import (
  AbsurdSize,
  Bomb,
  FileImages,
  MissingImage,
  UnopenedImage,
)
from tpr_jax.data.record import Dataset, ImageError, Record

BOMBS = bombs.files()
_MEASURE = textwrap.dedent("""
  import sys, threading, time
  from tpr_jax.data import images
  images.decode(sys.argv[1])  # Pillow's plugins are imported by now
  high = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
  for name in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")
    before, start = high(), time.process_time()
    try:
      images.decode(name)
      kind = "decoded"
    except images.Bomb:
      kind = "bomb"
    except images.ImageError as error:
      kind = repr(error)
    print(name, kind, (high() - before) // 1024, time.process_time() - start, sep="|")
""")


def test_every_error_has_a_kind():
  kinds = {e.kind for e in (ImageError, MissingImage, UnopenedImage, AbsurdSize, Bomb)}
  assert kinds == set(KINDS) - {"caption"}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused_by_name(name):
  assert len(BOMBS[name]) < 600_000
  with pytest.raises(Bomb, match=f"{name}: "):
    images.decode(BOMBS[name], name)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
def test_bombs_take_neither_memory_nor_time(tmp_path):
  Image.new("RGB", (40, 80)).save(tmp_path / "plain.png")
  for name, data in BOMBS.items():
    (tmp_path / name).write_bytes(data)
  command = [sys.executable, "-c", _MEASURE, "plain.png", *sorted(BOMBS)]
  env = {**os.environ, "PYTHONPATH": os.getcwd()}
  done = subprocess.run(
    command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
  )
  rows = [line.split("|") for line in done.stdout.splitlines()]
  assert [row[0] for row in rows] == sorted(BOMBS), done.stderr
  for name, kind, megabytes, seconds in rows:
    assert kind == "bomb", name
    assert int(megabytes) <= 8, name  # the file, and Pillow's megabyte of a text
    assert float(seconds) < 1, name


def test_pictures_up_to_the_limits_are_decoded(tmp_path):
  for size in ((4, 4), (4, 128), (128, 4), (20, 60), (2000, 2000)):
    path = tmp_path / "a.png"
    Image.new("RGB", size).save(path)
    assert images.decode(path).shape == (size[1], size[0], 3)
  jpeg = tmp_path / "a.jpg"  # all scans that real encoders make
  noise = np.random.default_rng(0).integers(0, 256, (400, 200, 3), np.uint8)
  Image.fromarray(noise).save(jpeg, progressive=True, quality=95)
  assert images.decode(jpeg).shape == (400, 200, 3)
  tiled = bombs._tiff(16, 16, rows=4_000_000)  # one strip "of all rows", as many write
  assert images.decode(tiled).shape == (16, 16, 3)


@pytest.mark.parametrize(
  ("size", "why"),
  [
    ((1, 1), "1 x 1 pixels: the shorter side is below 4"),
    ((3, 90), "3 x 90 pixels: the shorter side is below 4"),
    ((4, 129), "4 x 129 pixels: one side is more than 32 times as long"),
    ((2000, 60), "2000 x 60 pixels: one side is more than 32 times"),
  ],
)
def test_absurd_sizes_are_refused_in_words(size, why):
  picture = Image.new("RGB", size)
  with pytest.raises(AbsurdSize, match=rf"^x\.png: {why}"):
    images.from_pillow(picture, "x.png")


def test_files_over_the_limit_of_bytes(tmp_path, monkeypatch):
  path = tmp_path / "film.jpg"
  with path.open("wb") as file:
    file.truncate(images.MAX_BYTES * 40)  # 10 GB of nothing, and sparse
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.monotonic()
  monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
  with pytest.raises(Bomb, match=r"film\.jpg: the file has more than 1,048,576 bytes"):
    images.decode(path, "film.jpg")
  assert time.monotonic() - start < 5
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.skipif(not pathlib.Path("/proc/version").exists(), reason="no /proc")
def test_a_file_that_does_not_tell_its_size_is_read_to_its_end():
  path = pathlib.Path("/proc/version")
  assert path.stat().st_size == 0
  assert images.read_bytes(path) == path.read_bytes() != b""


# ---- what is no file


def _fifo(path):
  os.mkfifo(path)


def _folder(path):
  path.mkdir()


def _loop(path):
  path.symlink_to(path)


def _socket(path):
  server = socket.socket(socket.AF_UNIX)
  here = os.getcwd()
  os.chdir(path.parent)  # names of sockets are short
  server.bind(path.name)
  os.chdir(here)


def _device(path):
  path.symlink_to("/dev/zero")  # never ends


def _below_a_file(path):
  path.parent.joinpath("file").write_text("")
  path.symlink_to(path.parent / "file/1.jpg")


def _forbidden(path):
  path.write_bytes(b"")
  path.chmod(0)
  if os.access(path, os.R_OK):
    pytest.skip("root may read everything")


PLACES = [_fifo, _folder, _loop, _socket, _device, _below_a_file, _forbidden]


@pytest.mark.parametrize("make", PLACES, ids=[p.__name__[1:] for p in PLACES])
@pytest.mark.parametrize("name", ["1.jpg", "é 人.jpg", "e\u0301.jpg"])
def test_what_is_no_file_is_an_error_and_never_a_hang(make, name, tmp_path):
  make(tmp_path / name)
  found = []
  record = Record(name, 0, ("A man.",), "train")

  def read():
    try:
      FileImages(str(tmp_path))(record)
    except BaseException as error:
      found.append(error)

  thread = threading.Thread(target=read, daemon=True)
  thread.start()
  thread.join(20)
  assert found, "still waiting"
  assert isinstance(found[0], UnopenedImage), found
  assert str(found[0]).startswith(f"{name}: cannot be opened: ")


def test_a_file_that_may_not_be_read_is_an_error_of_the_picture(tmp_path, monkeypatch):
  Image.new("RGB", (8, 16)).save(tmp_path / "1.png")

  def forbidden(path, flags):
    raise PermissionError(13, "Permission denied", path)

  monkeypatch.setattr(images, "_open_at_once", forbidden)
  with pytest.raises(UnopenedImage, match=r"1\.png: cannot be opened: .*denied"):
    images.decode(tmp_path / "1.png", "1.png")


def test_a_broken_link_and_a_missing_folder_are_missing_files(tmp_path):
  (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
  for name in ("link.jpg", "no/folder/é.jpg"):
    with pytest.raises(MissingImage, match=f"{name}: no such file"):
      FileImages(str(tmp_path))(Record(name, 0, (), "train"))
  with pytest.raises(UnopenedImage, match="cannot be opened"):
    FileImages(str(tmp_path))(Record("a\0b.jpg", 0, (), "train"))


def test_a_link_to_a_picture_is_a_picture(tmp_path):
  Image.new("RGB", (8, 16)).save(tmp_path / "there.png")
  (tmp_path / "here.png").symlink_to(tmp_path / "there.png")
  assert images.decode(tmp_path / "here.png").shape == (16, 8, 3)


def test_check_finds_each_kind(tmp_path):
  Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
  (tmp_path / "bomb.png").write_bytes(BOMBS["size.png"])
  _fifo(tmp_path / "pipe.png")
  names = ("dot.png", "bomb.png", "pipe.png", "none.png")
  records = tuple(Record(n, i, ("A man.",), "test") for i, n in enumerate(names))
  data = Dataset("made", "test", records, FileImages(str(tmp_path)))
  (seen,) = check_images.look_at_all([data], 2, None)
  found = {f.kind: f for f in check_images.check(data, seen, 5)}
  assert set(found) == {"absurd-sizes", "unreadable-images", "missing-images"}
  assert found["absurd-sizes"].examples == (
    "dot.png: 1 x 1 pixels: the shorter side is below 4, so it shows nothing; is it a "
    "placeholder?",
  )
  assert found["unreadable-images"].count == 2
