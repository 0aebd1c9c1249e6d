"""The identity of weights: their content, wherever they lie."""

import shutil

import pytest

from tpr_jax import weights_id
from tpr_jax.run_folder import RunError


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "export"
  path.mkdir()
  (path / "model.safetensors").write_bytes(b"weights" * 400_000)
  (path / "config.json").write_text("{}")
  (path / "README.md").write_text("a card")
  return path


def test_a_folder_is_its_weights_and_settings(folder):
  one = weights_id.of(folder)
  assert one.place == str(folder) and one.step is None and one.finished
  (folder / "README.md").write_text("another card")
  shutil.copytree(folder, folder.parent / "copy")
  copied = weights_id.of(folder.parent / "copy")
  assert copied.digest == one.digest and copied.place != one.place
  found = {one.digest}
  (folder / "config.json").write_text('{"a": 1}')
  found.add(weights_id.of(folder).digest)
  # The last byte counts too.
  with (folder / "model.safetensors").open("r+b") as file:
    file.seek(-1, 2)
    file.write(b"S")
  found.add(weights_id.of(folder).digest)
  (folder / "vocab.json").write_text("{}")
  found.add(weights_id.of(folder).digest)
  assert len(found) == 4


def test_a_file_is_its_content(tmp_path):
  one, other = tmp_path / "a.pth", tmp_path / "b.pth"
  one.write_bytes(b"1")
  other.write_bytes(b"2")
  assert weights_id.of(one).digest != weights_id.of(other).digest
  assert weights_id.of(str(one)).digest == weights_id.of(one).digest


def test_a_hub_id_is_its_name():
  found = weights_id.of("openai/clip-vit-base-patch16")
  assert found.place == "openai/clip-vit-base-patch16"
  assert found.digest == "hub:openai/clip-vit-base-patch16"


def test_a_run_without_a_checkpoint(tmp_path):
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "config.json").write_text('{"train": {"select": "R1"}}')
  with pytest.raises(RunError, match="no checkpoint"):
    weights_id.of(tmp_path)
