"""Our parameter tree as a PyTorch state, by rule; gradients have the same names."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tpr_jax.core import tree

_LEAVES = {"kernel": "weight", "scale": "weight", "token_embedding": "weight"}


def torch_name(name: str) -> str:
  """ "visual/blocks/block_0/ln_1/scale" -> "visual.blocks.0.ln_1.weight"."""
  *folders, leaf = name.split("/")
  if leaf == "token_embedding":
    folders.append(leaf)
  path = "/".join([*folders, _LEAVES.get(leaf, leaf)])
  path = re.sub(r"block_(\d+)", r"\1", path)
  return re.sub(r"layer_(\d+)", r"layers/\1", path).replace("/", ".")


def convert(name: str, leaf: Any) -> torch.Tensor:
  """Linear kernels [in, out] are transposed, those of convolutions [h, w, in, out]
  become [out, in, h, w]; everything else stays."""
  array = np.asarray(leaf)
  if name.endswith("/kernel"):
    array = array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
  return torch.from_numpy(np.array(array))  # a copy, in order


def state(params: Mapping[str, Any]) -> dict[str, torch.Tensor]:
  """Our tree of parameters, or of their gradients -> torch's names and layouts."""
  return {torch_name(k): convert(k, v) for k, v in tree.flat(params).items()}
