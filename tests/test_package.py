"""What is installed: every package, every data file, the configs beside the code."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tpr_jax"


@pytest.fixture(scope="module")
def setup():
  parser = configparser.ConfigParser()
  parser.read(ROOT / "setup.cfg", encoding="utf-8")
  return parser


def words(value):
  return [word for word in value.replace(",", "\n").split() if word]


def data_patterns(setup):
  return {name: words(value) for name, value in setup["options.package_data"].items()}


def test_the_packages_are_the_folders(setup):
  folders = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in PACKAGE.rglob("__init__.py")
  }
  assert words(setup["options"]["packages"]) == sorted(folders | {"tpr_jax.configs"})


def test_every_folder_with_code_is_a_package():
  for path in PACKAGE.rglob("*.py"):
    assert (path.parent / "__init__.py").exists(), path


def test_every_pattern_of_package_data_matches_a_file(setup):
  for name, patterns in data_patterns(setup).items():
    for pattern in patterns:
      assert list((ROOT / name.replace(".", "/")).glob(pattern)), f"{name}: {pattern}"


def test_every_file_that_is_not_code_is_package_data(setup):
  covered = {
    path
    for name, patterns in data_patterns(setup).items()
    for pattern in patterns
    for path in (ROOT / name.replace(".", "/")).glob(pattern)
  }
  others = {
    path
    for path in PACKAGE.rglob("*")
    if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
  }
  assert others and others <= covered


def test_the_core_needs_neither_torch_nor_tensorflow(setup):
  names = [
    line.split(";")[0] for line in setup["options"]["install_requires"].split("\n")
  ]
  for name in filter(None, (name.split(">")[0].strip() for name in names)):
    assert name not in ("torch", "torchvision", "tensorflow", "tensorflow-cpu")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel, built from a copy: building writes into the tree."""
  pytest.importorskip("setuptools", "69", reason="setuptools>=69 builds the wheel")
  pytest.importorskip("pip", reason="pip builds the wheel")
  copy, out = (
    tmp_path_factory.mktemp("copy") / "tpr_jax",
    tmp_path_factory.mktemp("out"),
  )
  skip = shutil.ignore_patterns("__pycache__")
  for name in ("tpr_jax", "configs"):
    shutil.copytree(ROOT / name, copy / name, ignore=skip)
  for path in ROOT.iterdir():
    if path.is_file():
      shutil.copy(path, copy)
  command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
  command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(copy)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  (path,) = out.iterdir()
  return path


def test_the_wheel_has_code_configs_and_data(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  inside = {name for name in names if name.startswith("tpr_jax/")}
  expected = {
    str(path.relative_to(ROOT))
    for path in PACKAGE.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
  } | {f"tpr_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
  assert inside == expected
  assert {"tpr_jax/configs/cfam.py", "tpr_jax/report/page.html"} <= inside
  assert "tpr_jax/data/people_bpe.json" in inside
  assert any(name.endswith("LICENSE") for name in names)
  # Nothing else: neither tests nor a second `configs` package at the top.
  assert {name.split("/")[0] for name in names - inside} == {
    f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
  }


def test_an_installed_copy_finds_its_configs(wheel, tmp_path):
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(tmp_path / "site")
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  done = subprocess.run(
    [sys.executable, "-m", "tpr_jax.main", "--config=configs/cfam.py:ufine6962"],
    cwd=elsewhere,
    env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and "Did you mean 'ufine6926'" in done.stderr
  code = (
    "from tpr_jax import config; from tpr_jax.data import tokenizer;"
    "print(config.shipped_folder());"
    "config.expose_shipped(); from configs import common;"
    "print(common.__file__); print(tokenizer.build('people').vocab_size > 300)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=elsewhere,
    env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    capture_output=True,
    text=True,
  )
  folder = tmp_path / "site" / "tpr_jax" / "configs"
  assert done.stdout.split() == [str(folder), str(folder / "common.py"), "True"]
