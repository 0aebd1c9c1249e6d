"""Records of rendered people from a file: the same, or made again."""

import gzip
import os

import pytest

from tpr_jax.data import user_cache
from tpr_jax.data.rendered import sets, stored

OPTIONS = dict(identities=12, views=2, regions=True, labels=True, pair_noise=0.5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv(user_cache.NAME, str(tmp_path))
  monkeypatch.setattr(stored, "WORTH", 0.0)
  return tmp_path / stored.KIND


def load(**changed):
  return sets.load("test", **{**OPTIONS, **changed}).records


@pytest.fixture
def unmade(monkeypatch):
  def fail(*_):
    raise AssertionError("records are made again")

  return lambda: monkeypatch.setattr(sets, "_record", fail)


def test_the_second_time_they_come_from_a_file_and_are_equal(
  folder, monkeypatch, unmade
):
  monkeypatch.setenv(user_cache.NAME, user_cache.OFF)
  plain = load()
  assert not folder.exists()
  monkeypatch.setenv(user_cache.NAME, str(folder.parent))
  assert load() == plain
  unmade()
  again = load()
  assert again == plain
  assert type(again[0].captions) is tuple and type(again[0].identity) is int


def test_other_options_and_other_sources_are_other_files(folder, monkeypatch):
  load()
  for changed in (dict(seed=1), dict(views=1), dict(labels=False), dict(twins=0)):
    load(**changed)
  assert len(list(folder.iterdir())) == 5
  monkeypatch.setattr(stored, "_sources", lambda: "another version")
  load()
  assert len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no list"])
def test_a_file_that_is_not_whole_is_made_again(folder, damage, unmade):
  plain = load()
  (path,) = folder.iterdir()
  data = path.read_bytes()
  path.write_bytes(
    {
      "cut": data[: len(data) // 2],
      "flipped": data[:-20] + bytes([data[-20] ^ 255]) + data[-19:],
      "empty": b"",
      "no list": gzip.compress(b"[1, 2]"),
    }[damage]
  )
  assert load() == plain
  unmade()
  assert load() == plain


def test_what_is_made_at_once_is_not_kept(folder, monkeypatch):
  monkeypatch.setattr(stored, "WORTH", 1e6)
  load()
  assert not folder.exists()


def test_where_nothing_can_be_written_they_are_made(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("no folder")
  monkeypatch.setenv(user_cache.NAME, str(tmp_path / "file"))
  monkeypatch.setattr(stored, "WORTH", 0.0)
  assert len(load()) == 24


def test_what_was_not_read_for_longest_goes_first(folder, monkeypatch):
  load(seed=1)
  (first,) = folder.iterdir()
  load(seed=2)
  os.utime(first, (1, 1))
  size = max(path.stat().st_size for path in folder.iterdir())
  monkeypatch.setattr(stored, "_MOST", int(2.5 * size))
  load(seed=3)
  assert len(list(folder.iterdir())) == 2
  assert not first.exists()
