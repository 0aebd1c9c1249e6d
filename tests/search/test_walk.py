"""Walks: what is a picture, links, and names of all kinds."""

import os

import pytest

from tests.search import place
from tpr_jax.search import walk


def names(found):
  return [file.path for file in found.files]


def test_pictures_by_their_names(tmp_path):
  for name in ("b.JPG", "a/z.png", "a/ü 人's.jpeg", ".hidden.png", ".git/x.png"):
    place.write(tmp_path / name, format="PNG")
  (tmp_path / "notes.txt").write_text("x")
  found = walk.walk(tmp_path)
  assert names(found) == sorted(["b.JPG", "a/z.png", "a/ü 人's.jpeg"])
  assert (found.others, found.problems) == (1, {})
  assert all(file.modified == place.PAST * 10**9 for file in found.files)


def test_the_index_may_lie_in_the_folder(tmp_path):
  place.write(tmp_path / "a.png")
  place.write(tmp_path / "index" / "b.png")
  assert names(walk.walk(tmp_path, tmp_path / "index")) == ["a.png"]


def test_links_are_followed_and_loops_end(tmp_path):
  images = place.folder(tmp_path / "images", 2)
  place.write(tmp_path / "elsewhere" / "x.png")
  (images / "far").symlink_to(tmp_path / "elsewhere")
  (images / "one.png").symlink_to(tmp_path / "elsewhere" / "x.png")
  (images / "cam0" / "up").symlink_to(images)
  (images / "lost.png").symlink_to(images / "nothing.png")
  found = walk.walk(images)
  assert names(found) == ["cam0/000.png", "cam1/001.png", "far/x.png", "one.png"]
  assert sorted(found.problems) == ["cam0/up", "lost.png"]
  assert "a link to nothing" in found.problems["lost.png"]
  assert not found.is_shut("lost.png")


@pytest.mark.skipif(os.getuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_read_is_shut(tmp_path):
  images = place.folder(tmp_path / "images", 2)
  (images / "cam1").chmod(0)
  try:
    found = walk.walk(images)
  finally:
    (images / "cam1").chmod(0o755)
  assert names(found) == ["cam0/000.png"] and "cam1" in found.problems
  assert found.is_shut("cam1/001.png") and not found.is_shut("cam0/000.png")


def test_a_name_that_is_no_unicode_is_told(tmp_path):
  place.write(tmp_path / "a.png")
  try:
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
  except OSError:
    pytest.skip("this file system takes Unicode names alone")
  found = walk.walk(tmp_path)
  assert names(found) == ["a.png"]
  assert "UTF-8" in next(iter(found.problems.values()))
