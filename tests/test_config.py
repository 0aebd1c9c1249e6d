"""Finding, reading, comparing and naming configs (tpr_jax/config.py)."""

import functools
import importlib
import pathlib
import re

import pytest

from tpr_jax import config as configs


def get(argument=None):
  """The shipped configs/cfam.py, locked as a run has it."""
  configs.expose_shipped()
  return importlib.import_module("configs.cfam").get_config(argument).lock()


def test_a_config_is_read_as_the_flag_reads_it():
  path = configs.resolve("configs/cfam.py")
  assert configs.plain(configs.read(path)) == configs.plain(get())
  found = configs.read(f"{path}:icfg_pedes,variant=tiny")
  assert configs.plain(found) == configs.plain(get("icfg_pedes,variant=tiny"))
  with pytest.raises(configs.ConfigError, match="Did you mean 'icfg_pedes'"):
    configs.read(f"{path}:icfg_peds")


def test_differences_name_every_field():
  old = dict(a=1, b=dict(c=[1, 2], d="x"), gone=3)
  new = dict(a=1, b=dict(c=[1, 3], d="x"), new=None)
  assert configs.differences(old, new) == ["b.c: [1, 2] -> [1, 3]", "gone: 3 -> None"]
  assert configs.differences(old, old) == []


def test_a_saved_config_is_read_back_and_locked(tmp_path):
  path = tmp_path / "config.json"
  configs.write_json(path, configs.plain(get()))
  found = configs.load(path)
  assert configs.plain(found) == configs.plain(get())
  with pytest.raises(AttributeError):
    found.optim.lrr = 1.0
  assert list(tmp_path.iterdir()) == [path]
  path.write_text('{"a": ')
  with pytest.raises(configs.ConfigError, match="not valid JSON"):
    configs.load(path)
  with pytest.raises(configs.ConfigError, match=r"is .* a run's folder"):
    configs.load(tmp_path / "other" / "config.json")


def test_the_name_of_a_run():
  config = configs.plain(get())
  name = functools.partial(configs.run_name, config=config, overridden=False)
  assert name("configs/cfam.py") == "cfam"
  assert name("/x/cfam.py:ufine6926,variant=L/14") == "cfam-ufine6926-variantL14"
  changed = dict(config, seed=1)
  first = configs.run_name("configs/cfam.py", config, True)
  assert re.fullmatch("cfam-[0-9a-f]{8}", first)
  assert first == configs.run_name("configs/cfam.py", dict(config), True)
  assert first != configs.run_name("configs/cfam.py", changed, True)


def test_a_config_is_found_from_anywhere(tmp_path, monkeypatch):
  shipped = configs.shipped_folder() / "cfam.py"
  monkeypatch.chdir(tmp_path)
  assert configs.resolve("configs/cfam.py:a,b=1") == f"{shipped}:a,b=1"
  assert configs.resolve(str(shipped)) == str(shipped)
  own = tmp_path / "configs" / "cfam.py"
  own.parent.mkdir()
  own.write_text("")
  assert configs.resolve("configs/cfam.py") == str(own)  # one's own comes first
  with pytest.raises(
    configs.ConfigError, match=r"no file 'cfam\.py'.*configs/cfam\.py"
  ):
    configs.resolve("cfam.py")
  with pytest.raises(configs.ConfigError) as caught:
    configs.resolve("configs/cfm.py:x")
  assert "configs/cfm.py:x" in str(caught.value)
  assert "common" not in str(caught.value)


def test_ones_own_config_can_use_the_shipped_fragments(tmp_path):
  path = pathlib.Path(configs.resolve("configs/cfam.py"))
  copy = tmp_path / "mine.py"
  copy.write_text(path.read_text())
  configs.expose_shipped()
  spec = importlib.util.spec_from_file_location("mine", copy)
  mine = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(mine)
  assert configs.plain(mine.get_config("rendered")) == configs.plain(get())
