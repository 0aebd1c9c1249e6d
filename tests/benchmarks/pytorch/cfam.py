"""CFAM in plain PyTorch: towers, granularity decoder, matcher, identities and losses.

UFineBench (CVPR 2024), as tpr_jax/objectives.py puts it together: SDM on the global and
the local similarity, matching over true pairs and hardest negatives, and the fused
classification of identities.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks.pytorch.towers import (
  Blocks,
  Mlp,
  SelfAttention,
  TextTower,
  VisionTower,
  quick_gelu,
)

LOSSES = ("sdm", "sdm_local", "matching", "identity")


class CrossAttention(nn.Module):
  """Queries attend to tokens, k and v in one product."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
    self.out = nn.Linear(width, width)

  def forward(self, x, tokens, mask):
    """[B, K, D], [B, L, D], bool [B, 1, 1, L] or None -> [B, K, D]."""
    rows, count, width = x.shape
    each = width // self.heads
    q = self.q(x).view(rows, count, self.heads, each).transpose(1, 2)
    pair = self.kv(tokens).view(rows, -1, 2, self.heads, each)
    k, v = pair.permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return self.out(y.transpose(1, 2).reshape(rows, count, width))


class DecoderLayer(nn.Module):
  """Self-attention of the queries, cross-attention to the tokens, MLP; pre-LN."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.ln_self, self.ln_cross, self.ln_tokens, self.ln_mlp = (
      nn.LayerNorm(width) for _ in range(4)
    )
    self.self_attn = SelfAttention(width, heads)
    self.cross_attn, self.mlp = CrossAttention(width, heads), Mlp(width)

  def forward(self, x, tokens, mask):
    """[B, K, D], [B, L, D] -> [B, K, D]."""
    x = x + self.self_attn(self.ln_self(x))
    x = x + self.cross_attn(self.ln_cross(x), self.ln_tokens(tokens), mask)
    return x + self.mlp(self.ln_mlp(x))


class Granularity(nn.Module):
  """Learnt queries gather the parts of an image or of a text."""

  def __init__(self, like, joint_dim: int):
    super().__init__()
    width = like.width
    if joint_dim != width:
      self.tokens_in = nn.Linear(joint_dim, width)
    self.queries = nn.Parameter(torch.empty(like.queries, width))
    self.layers = nn.ModuleList(
      DecoderLayer(width, like.heads) for _ in range(like.layers)
    )
    self.ln_final = nn.LayerNorm(width)

  def forward(self, tokens, mask=None):
    """[B, L, D], bool [B, L] or None -> [B, K, W]."""
    if hasattr(self, "tokens_in"):
      tokens = self.tokens_in(tokens)
    x = self.queries.to(tokens.dtype).expand(len(tokens), -1, -1)
    keys = None if mask is None else mask[:, None, None, :]
    for layer in self.layers:
      x = layer(x, tokens, keys)
    return self.ln_final(x)


class Matcher(nn.Module):
  """Parts of pairs -> the logit of "one person"."""

  def __init__(self, like, width: int):
    super().__init__()
    self.modality = nn.Parameter(torch.empty(2, width))
    self.blocks = Blocks(like.layers, width, like.heads)
    self.fc, self.logit = nn.Linear(width, width), nn.Linear(width, 1)

  def forward(self, image, text):
    """[P, K, W], [P, K, W] -> [P]."""
    x = torch.cat([image + self.modality[0], text + self.modality[1]], dim=1)
    x = quick_gelu(self.fc(self.blocks(x).mean(1)))
    return self.logit(x)[:, 0]


class FusedIdentity(nn.Module):
  """Features of pairs -> one of N identities, or class N: two people."""

  def __init__(self, identities: int, width: int):
    super().__init__()
    self.project, self.ln = nn.Linear(2 * width, width), nn.LayerNorm(width)
    self.classifier = nn.Linear(width, identities + 1)

  def forward(self, image, text):
    """[P, D], [P, D] -> [P, N + 1]."""
    x = self.project(torch.cat([image, text], dim=1))
    return self.classifier(self.ln(quick_gelu(x)))


class Cfam(nn.Module):
  """The model and its loss; `like`: our `DualEncoder`, whose sizes it takes.

  Args:
    weights: of the losses, names out of LOSSES, all of them.
    temperature: of the cosines.
  """

  def __init__(self, like, weights, temperature: float):
    super().__init__()
    if set(weights) != set(LOSSES):
      raise ValueError(f"losses {sorted(weights)}: expected {', '.join(LOSSES)}")
    self.weights, self.scale = dict(weights), 1 / temperature
    self.visual, self.text = VisionTower(like.visual), TextTower(like.text)
    dim = like.visual.joint_dim
    self.granularity = Granularity(like.granularity, dim)
    self.matcher = Matcher(like.matcher, like.granularity.width)
    self.identity_fused = FusedIdentity(like.identity_fused.identities, dim)

  def remat(self, on: bool) -> None:
    """Whether the blocks of the towers are computed again on the way back."""
    self.visual.blocks.remat = self.text.blocks.remat = on

  def encode_image(self, image):
    """uint8 [B, H, W, 3] -> unit rows [B, D]."""
    return F.normalize(self.visual(image)[:, 0].float(), dim=-1)

  def encode_text(self, text):
    """int [B, L] -> unit rows [B, D]."""
    rows = torch.arange(len(text), device=text.device)
    return F.normalize(self.text(text)[rows, text.argmax(1)].float(), dim=-1)

  def forward(self, image, text, ids):
    """uint8 [B, H, W, 3], int [B, L], int [B] -> (loss, {name: term})."""
    image_tokens, text_tokens = self.visual(image), self.text(text)
    end = text.argmax(1)
    rows = torch.arange(len(text), device=text.device)
    places = torch.arange(text.shape[1], device=text.device)
    image_feature = image_tokens[:, 0].float()
    text_feature = text_tokens[rows, end].float()
    image_parts = self.granularity(image_tokens)
    text_parts = self.granularity(text_tokens, places <= end[:, None])
    with torch.autocast(image.device.type, enabled=False):
      cosine = F.normalize(text_feature, dim=-1) @ F.normalize(image_feature, dim=-1).T
      local = _part_similarity(text_parts.float(), image_parts.float())
      terms = dict(
        sdm=sdm(cosine, ids, self.scale), sdm_local=sdm(local, ids, self.scale)
      )
      hard_text, hard_image, found = hard_negatives(local.detach(), ids)
    image_of, text_of = (
      torch.cat(three) for three in ((rows, rows, hard_image), (rows, hard_text, rows))
    )
    valid = torch.cat([torch.ones_like(found), found, found]).float()
    logits = self.matcher(image_parts[image_of], text_parts[text_of]).float()
    label = torch.cat([torch.ones_like(rows), torch.zeros_like(rows).repeat(2)]).float()
    each = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    terms["matching"] = (each * valid).sum() / valid.sum()
    with torch.autocast(image.device.type, enabled=False):
      classes = self.identity_fused(image_feature[image_of], text_feature[text_of])
      same = ids[image_of] == ids[text_of]
      label = torch.where(same, ids[image_of], classes.shape[1] - 1)
      each = F.cross_entropy(classes, label, reduction="none")
      terms["identity"] = (each * valid).sum() / valid.sum()
    loss = sum(self.weights[name] * term for name, term in terms.items())
    return loss, {name: term.detach() for name, term in terms.items()}


def _part_similarity(a, b):
  """[A, K, W], [B, K, W] -> [A, B]: mean over k of the cosine of part k with part k."""
  flat = [F.normalize(x, dim=-1).flatten(1) for x in (a, b)]
  return flat[0] @ flat[1].T / a.shape[1]


def sdm(similarity, ids, scale, eps: float = 1e-8):
  """[B, B] cosines, int [B] -> []: KL of softmax to labels, both directions."""
  same = (ids[:, None] == ids[None, :]).float()
  log_q = (same / same.sum(1, keepdim=True) + eps).log()
  total = 0.0
  for logits in (scale * similarity, scale * similarity.T):
    log_p = F.log_softmax(logits, dim=1)
    total = total + (log_p.exp() * (log_p - log_q)).sum(1).mean()
  return total


def hard_negatives(similarity, ids):
  """[B, B], rows texts -> (text of each image, image of each text, bool [B])."""
  allowed = ids[:, None] != ids[None, :]
  score = similarity.masked_fill(~allowed, float("-inf"))
  return score.argmax(0), score.argmax(1), allowed.any(1)
