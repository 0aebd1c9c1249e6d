"""CLIP's two towers in plain PyTorch (Radford et al., arXiv:2103.00020).

Written anew, to be compared with: what a PyTorch programmer would use (one product for
q, k and v, scaled_dot_product_attention, `torch.utils.checkpoint`), the mathematics of
tpr_jax/models, and its names, so that weights and gradients go over by rule
(weights.py). Both towers return every token, normalised and projected.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
  """x sigmoid(1.702 x), as OpenAI's CLIP has it."""
  return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class SelfAttention(nn.Module):
  """Multi-head self-attention, q, k and v in one product."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

  def forward(self, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """[B, L, D] -> [B, L, D]."""
    rows, length, width = x.shape
    heads = self.qkv(x).view(rows, length, 3, self.heads, width // self.heads)
    q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return self.out(y.transpose(1, 2).reshape(rows, length, width))


class Mlp(nn.Module):
  """Linear(4 D), activation, Linear(D)."""

  def __init__(self, width: int, activation: str = "quick_gelu"):
    super().__init__()
    self.fc, self.proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
    self.activation = ACTIVATIONS[activation]

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[..., D] -> [..., D]."""
    return self.proj(self.activation(self.fc(x)))


class Block(nn.Module):
  """Pre-LN: attention, then the MLP, each added to what came in."""

  def __init__(self, width: int, heads: int, activation: str, epsilon: float):
    super().__init__()
    self.ln_1, self.ln_2 = (nn.LayerNorm(width, epsilon) for _ in range(2))
    self.attn, self.mlp = SelfAttention(width, heads), Mlp(width, activation)

  def forward(self, x: torch.Tensor, causal: bool) -> torch.Tensor:
    """[B, L, D] -> [B, L, D]."""
    x = x + self.attn(self.ln_1(x), causal)
    return x + self.mlp(self.ln_2(x))


class Blocks(nn.ModuleList):
  """Blocks in turn; with `remat` each is computed again on the way back."""

  def __init__(self, layers, width, heads, activation="quick_gelu", epsilon=1e-5):
    super().__init__(Block(width, heads, activation, epsilon) for _ in range(layers))
    self.remat = False

  def forward(self, x: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """[B, L, D] -> [B, L, D]."""
    for block in self:
      if self.remat and torch.is_grad_enabled():
        x = checkpoint(block, x, causal, use_reentrant=False)
      else:
        x = block(x, causal)
    return x


class VisionTower(nn.Module):
  """ViT with a class token; `like`: our Flax tower, whose sizes it takes."""

  def __init__(self, like):
    super().__init__()
    width = like.width
    rows, columns = (
      (size - patch) // stride + 1
      for size, patch, stride in zip(
        like.image_size, like.patch, like.stride, strict=True
      )
    )
    for name, values in (("mean", like.pixel_mean), ("std", like.pixel_std)):
      values = torch.tensor(values).view(3, 1, 1)
      self.register_buffer(name, values, persistent=False)
    self.patch_embedding = nn.Conv2d(
      3, width, tuple(like.patch), tuple(like.stride), bias=False
    )
    self.class_embedding = nn.Parameter(torch.empty(width))
    self.position_embedding = nn.Parameter(torch.empty(1 + rows * columns, width))
    self.ln_pre = nn.LayerNorm(width, like.epsilon)
    self.blocks = Blocks(like.layers, width, like.heads, like.activation, like.epsilon)
    self.ln_post = nn.LayerNorm(width, like.epsilon)
    self.projection = nn.Linear(width, like.joint_dim, bias=False)

  def forward(self, image: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> [B, 1 + rows * columns, joint_dim]."""
    x = (image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
    x = self.patch_embedding(x).flatten(2).transpose(1, 2)
    first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + self.position_embedding
    return self.projection(self.ln_post(self.blocks(self.ln_pre(x))))


class TextTower(nn.Module):
  """Causal transformer; `like`: our Flax tower, whose sizes it takes."""

  def __init__(self, like):
    super().__init__()
    width = like.width
    self.token_embedding = nn.Embedding(like.vocab_size, width)
    self.position_embedding = nn.Parameter(torch.empty(like.length, width))
    self.blocks = Blocks(like.layers, width, like.heads, like.activation, like.epsilon)
    self.ln_final = nn.LayerNorm(width, like.epsilon)
    self.projection = nn.Linear(width, like.joint_dim, bias=False)

  def forward(self, text: torch.Tensor) -> torch.Tensor:
    """int [B, L] -> [B, L, joint_dim]."""
    x = self.token_embedding(text) + self.position_embedding[: text.shape[1]]
    return self.projection(self.ln_final(self.blocks(x, causal=True)))
