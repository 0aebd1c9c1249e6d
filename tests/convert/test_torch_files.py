"""PyTorch's own files, written by torch and read without it."""

import argparse
import collections
import pathlib

import numpy as np
import pytest

from tests.convert import golden
from tests.convert.test_files import Code, params_of
from tests.convert.test_towers import HEADS
from tpr_jax.convert import files, torch_files
from tpr_jax.convert.source import ConvertError

torch = pytest.importorskip("torch")
OLD = dict(_use_new_zipfile_serialization=False)


def tensors(weights):
  return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}


@pytest.fixture
def path(tmp_path):
  return tmp_path / "model.pt"


@pytest.mark.parametrize("options", [{}, OLD])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_state_dicts(path, openai, options, wrapper):
  prefix = "module." if wrapper else ""
  state = {prefix + name: value for name, value in tensors(openai).items()}
  if wrapper:
    state = {"epoch": 3, wrapper: collections.OrderedDict(state)}
  torch.save(state, path, **options)
  golden.check_params(params_of(path, activation="quick_gelu"))


def test_outputs(path, openai):
  torch.save(tensors(openai), path)
  golden.check_outputs(params_of(path, activation="quick_gelu"))


@pytest.mark.parametrize("options", [{}, OLD])
def test_dtypes_views_and_what_training_leaves(path, options):
  table = torch.arange(12.0).reshape(3, 4)
  state = dict(
    half=table.half(),
    brain=table.bfloat16(),
    double=table.double(),
    integer=table.long(),
    turned=table.T,
    part=table[1:, 2],
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(table),
  )
  counter = collections.Counter([1])
  left = dict(args=argparse.Namespace(lr=1), best=np.float64(3), order=counter)
  torch.save(dict(model=state, seen={1, 2}, **left), path, **options)
  found, _ = torch_files.read(path)
  assert set(found) == set(state)
  for name, value in state.items():
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], value.detach().float().numpy())


def test_irra_file(path, openai):
  weights = {f"base_model.{k}": v for k, v in openai.items()}
  optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
  state = {"model": tensors({**weights, **HEADS}), "optimizer": optimizer}
  torch.save(state, path)
  found = files.read(path)
  assert found.layout == "irra" and found.settings["activation"] == "quick_gelu"
  golden.check_params(params_of(path))


def test_hugging_face_folder_with_a_torch_file(hf_folder, hf):
  (hf_folder / "model.safetensors").unlink()
  torch.save(tensors(hf), hf_folder / "pytorch_model.bin", **OLD)
  golden.check_params(params_of(hf_folder))


class Tree(torch.nn.Module):
  """Modules nested as the dots of the names say; `activation` is in its source."""

  def __init__(self, weights, activation):
    super().__init__()
    self.activation = activation
    for name, value in weights.items():
      *folders, last = name.split(".")
      at = self
      for folder in folders:
        if folder not in at._modules:
          at.add_module(folder, torch.nn.Module())
        at = at._modules[folder]
      at.register_parameter(last, torch.nn.Parameter(value))
    self.register_buffer("input_resolution", torch.tensor(24))

  def forward(self, x):
    # The trace drops a parameter that is not used.
    return self.activation(x) + sum(p.float().sum() for p in self.parameters())


@pytest.mark.parametrize("name", ["quick_gelu", "gelu"])
def test_torchscript(path, openai, name):
  quick = lambda x: x * torch.sigmoid(1.702 * x)
  activation = quick if name == "quick_gelu" else torch.nn.functional.gelu
  halves = {k: v.half() for k, v in tensors(openai).items()}  # the golden's are exact
  torch.jit.trace(Tree(halves, activation), torch.ones(2)).save(str(path))
  found = files.read(path)
  assert found.layout == "openai"
  assert found.settings == dict(activation=name, epsilon=1e-5)
  assert "input_resolution" in found.weights
  golden.check_params(params_of(path))


@pytest.mark.parametrize("options", [{}, OLD])
def test_code_beside_the_weights_is_not_run(path, tmp_path, openai, options):
  made = tmp_path / "made"
  torch.save({"model": tensors(openai), "more": Code(made)}, path, **options)
  with pytest.raises(ConvertError, match="open to be run"):
    files.read(path)
  assert not made.exists()


@pytest.mark.parametrize("options", [{}, OLD])
def test_truncated(path, openai, options):
  torch.save(tensors(openai), path, **options)
  content = path.read_bytes()
  for keep in (len(content) // 50, len(content) // 2, len(content) - 30):
    path.write_bytes(content[:keep])
    with pytest.raises(ConvertError, match="truncated or no PyTorch checkpoint"):
      files.read(path)


def test_a_view_outside_of_its_storage():
  storage = torch_files._Storage(np.dtype("<f4"), 4, lambda: bytes(16))
  for offset, shape, strides in (
    (1, (2, 2), (2, 1)),
    (0, (2,), (-1,)),
    (-1, (2,), (1,)),
    (0, (1 << 40,), (0,)),
  ):
    with pytest.raises(ValueError, match="outside of its storage"):
      torch_files._Tensor(storage, offset, shape, strides).array()


def test_no_tensors(path):
  torch.save(dict(lr=1), path)
  with pytest.raises(ConvertError, match=r"no state dict; found \['lr'\]"):
    files.read(path)
  torch.save(torch.nn.Linear(2, 2), path)
  with pytest.raises(ConvertError, match="Linear to be run"):
    files.read(pathlib.Path(path))
