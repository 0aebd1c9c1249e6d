import json

import pytest
from safetensors.numpy import save_file

from tests.convert import golden


@pytest.fixture(scope="session")
def hf():
  return golden.load()[0]


@pytest.fixture(scope="session")
def openai(hf):
  return golden.to_openai(hf)


@pytest.fixture
def hf_folder(tmp_path, hf):
  (tmp_path / "config.json").write_text(json.dumps(golden.HF_CONFIG))
  save_file(hf, tmp_path / "model.safetensors")
  return tmp_path
