"""Training batches from files as PyTorch programs make them: Pillow and a DataLoader.

The augmentation of IRRA (arXiv:2303.12501) in the operations that torchvision's are
made of: resize, flip, pad and crop on the Pillow picture, then a float32 tensor,
normalised, and a random box of it erased. Files in, {"image", "text", "ids"} out.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from tpr_jax.data.op import CLIP_MEAN, CLIP_STD


class Pairs(Dataset):
  """Picture, tokens and number of a pair.

  Args:
    paths: of JPEG files. tokens: int [n, L]. size: (height, width).
  """

  def __init__(self, paths: Sequence[str], tokens: np.ndarray, size: tuple[int, int]):
    self._paths, self._tokens, self._size = paths, torch.tensor(tokens), size
    self._mean, self._std = (
      torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD)
    )

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
    image = self._augmented(Image.open(self._paths[at]).convert("RGB"))
    return dict(image=image, text=self._tokens[at], ids=torch.tensor(at))

  def _augmented(self, image: Image.Image) -> torch.Tensor:
    """Pillow RGB -> float32 [3, H, W]."""
    height, width = self._size
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageOps.expand(image, 10)
    left, top = random.randint(0, 20), random.randint(0, 20)
    image = image.crop((left, top, left + width, top + height))
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    x = x.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
    if random.random() < 0.5:
      erase(x, self._mean)
    return x


def erase(x: torch.Tensor, fill: torch.Tensor) -> None:
  """Fills a random box of [3, H, W] in place, as torchvision's RandomErasing draws."""
  height, width = x.shape[1:]
  for _ in range(10):
    area = height * width * random.uniform(0.02, 0.4)
    aspect = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
    h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < h < height and 0 < w < width:
      top, left = random.randint(0, height - h), random.randint(0, width - w)
      x[:, top : top + h, left : left + w] = fill
      return


def batches(pairs: Pairs, batch: int, workers: int) -> DataLoader:
  """Shuffled batches; the workers stay from epoch to epoch."""
  return DataLoader(
    pairs,
    batch,
    shuffle=True,
    drop_last=True,
    num_workers=workers,
    persistent_workers=True,
  )
