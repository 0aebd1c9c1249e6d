"""IRRA in PyTorch for the golden arrays: towers, head, losses, optimizer, schedule.

Jiang & Ye, Cross-Modal Implicit Relation Reasoning and Aligning for Text-to-Image
Person Retrieval, CVPR 2023, arXiv:2303.12501. Shapes: B pairs, L text positions,
T = 1 + patches image tokens, D joint dimension. Parameter names are those of a
released IRRA checkpoint (OpenAI's CLIP below `base_model.`). It departs from IRRA in
one thing: float32 (or float64) everywhere, where IRRA computes in float16.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

BETAS, EPSILON = (0.9, 0.999), 1e-3
WEIGHT_DECAY = 4e-5
HEAD_FACTOR, BIAS_FACTOR = 5.0, 2.0
WARMUP_EPOCHS, WARMUP_FACTOR, TOTAL_EPOCHS = 5, 0.1, 60


class QuickGelu(nn.Module):
  def forward(self, x):
    return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
  """Pre-norm residual block; `mask` is added to the attention logits."""

  def __init__(self, width, heads):
    super().__init__()
    self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
    self.ln_1 = nn.LayerNorm(width, eps=1e-5)
    self.mlp = nn.Sequential()
    self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
    self.mlp.add_module("gelu", QuickGelu())
    self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
    self.ln_2 = nn.LayerNorm(width, eps=1e-5)

  def forward(self, x, mask=None):
    y = self.ln_1(x)
    x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
    return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
  def __init__(self, width, layers, heads):
    super().__init__()
    self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

  def forward(self, x, mask=None):
    for block in self.resblocks:
      x = block(x, mask)
    return x


class Vision(nn.Module):
  """[B, H, W, 3] normalised pixels -> [B, T, D]; token 0 is the class token.

  Patches overlap where `stride` is less than `patch`; None: they do not.
  """

  def __init__(self, *, image, patch, width, layers, heads, joint, stride=None):
    super().__init__()
    stride = stride or patch
    rows, columns = ((side - patch) // stride + 1 for side in image)
    tokens = 1 + rows * columns
    self.conv1 = nn.Conv2d(3, width, patch, stride=stride, bias=False)
    self.class_embedding = nn.Parameter(torch.empty(width))
    self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
    self.ln_pre = nn.LayerNorm(width, eps=1e-5)
    self.transformer = Transformer(width, layers, heads)
    self.ln_post = nn.LayerNorm(width, eps=1e-5)
    self.proj = nn.Parameter(torch.empty(width, joint))

  def forward(self, image):
    patches = self.conv1(image.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    first = self.class_embedding.expand(len(image), 1, -1)
    x = torch.cat([first, patches], dim=1) + self.positional_embedding
    return self.ln_post(self.transformer(self.ln_pre(x))) @ self.proj


class Clip(nn.Module):
  """Both towers; the text tower's leaves lie beside `visual`, as OpenAI names them."""

  def __init__(self, *, vision, length, vocabulary, width, layers, heads, joint):
    super().__init__()
    self.visual = Vision(**vision, joint=joint)
    self.transformer = Transformer(width, layers, heads)
    self.token_embedding = nn.Embedding(vocabulary, width)
    self.positional_embedding = nn.Parameter(torch.empty(length, width))
    self.ln_final = nn.LayerNorm(width, eps=1e-5)
    self.text_projection = nn.Parameter(torch.empty(width, joint))

  def encode_text(self, ids):
    """int64 [B, L] -> [B, L, D]: a causal mask, and none for the padding."""
    x = self.token_embedding(ids) + self.positional_embedding
    length = ids.shape[1]
    causal = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)
    return self.ln_final(self.transformer(x, causal)) @ self.text_projection


class Irra(nn.Module):
  """Towers, the classifier of identities, and the masked language model's head."""

  def __init__(self, *, towers, classes, depth):
    super().__init__()
    joint, vocabulary = towers["joint"], towers["vocabulary"]
    heads = joint // 64
    self.base_model = Clip(**towers)
    self.classifier = nn.Linear(joint, classes)
    self.cross_attn = nn.MultiheadAttention(joint, heads, batch_first=True)
    self.cross_modal_transformer = Transformer(joint, depth, heads)
    self.ln_pre_t = nn.LayerNorm(joint, eps=1e-5)
    self.ln_pre_i = nn.LayerNorm(joint, eps=1e-5)
    self.ln_post = nn.LayerNorm(joint, eps=1e-5)
    self.mlm_head = nn.Sequential()
    self.mlm_head.add_module("dense", nn.Linear(joint, joint))
    self.mlm_head.add_module("gelu", QuickGelu())
    self.mlm_head.add_module("ln", nn.LayerNorm(joint, eps=1e-5))
    self.mlm_head.add_module("fc", nn.Linear(joint, vocabulary))

  def cross_former(self, text, image):
    """[B, L, D] queries, [B, T, D] keys and values -> [B, L, D]; no padding mask."""
    image = self.ln_pre_i(image)
    x = self.cross_attn(self.ln_pre_t(text), image, image, need_weights=False)[0]
    return self.ln_post(self.cross_modal_transformer(x))

  def forward(self, batch):
    """All that a step computes, by name; token sequences are projected already."""
    image_tokens = self.base_model.visual(batch["image"])
    text_tokens = self.base_model.encode_text(batch["text"])
    mlm_tokens = self.base_model.encode_text(batch["mlm_text"])
    fused = self.cross_former(mlm_tokens, image_tokens)
    image = image_tokens[:, 0]
    text = text_tokens[torch.arange(len(image)), batch["text"].argmax(dim=1)]
    return dict(
      image_tokens=image_tokens,
      text_tokens=text_tokens,
      mlm_text_tokens=mlm_tokens,
      fused_tokens=fused,
      image_feature=image,
      text_feature=text,
      image_classes=self.classifier(image),
      text_classes=self.classifier(text),
      mlm_logits=self.mlm_head(fused),
    )


def labels_of(ids, image_ids=None, other_image=0.3):
  """int64 [B], [B] or None -> float64 [B, B]: 1 for the same person, else 0.

  With `image_ids`, `other_image` for another picture of the same person. They count
  through the dataset, so two people never share one.
  """
  labels = (ids[:, None] == ids[None, :]).double()
  if image_ids is None:
    return labels
  same_image = (image_ids[:, None] == image_ids[None, :]).double()
  return (labels - same_image) * other_image + same_image


def sdm(image, text, labels, scale, *, keepdim):
  """[B, D], [B, D] of any length, [B, B] -> []; both directions, mean over rows.

  keepdim=False is IRRA's `labels / labels.sum(dim=1)`: entry ij is divided by the sum
  of row j. With hard labels both are equal; with soft ones only keepdim=True gives
  rows that sum to 1.
  """
  target = labels / labels.sum(dim=1, keepdim=keepdim)
  image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
  logits = scale * (image @ text.T)
  total = 0.0
  for rows in (logits, logits.T):
    log_p = F.log_softmax(rows, dim=1)
    divergence = log_p.exp() * (log_p - torch.log(target + 1e-8))
    total = total + divergence.sum(dim=1).mean()
  return total


def infonce(image, text, scale):
  """[B, D], [B, D] of any length -> []: mean of both directions."""
  logits = scale * (F.normalize(image, dim=1) @ F.normalize(text, dim=1).T)
  own = torch.arange(len(logits))
  return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def identity(image_classes, text_classes, ids):
  """[B, N], [B, N], [B] -> []: mean of both cross entropies."""
  return (F.cross_entropy(image_classes, ids) + F.cross_entropy(text_classes, ids)) / 2


def mlm(logits, labels):
  """[M, V], [M] with 0 where nothing was masked -> []: mean over masked positions."""
  return F.cross_entropy(logits, labels, ignore_index=0)


def losses(out, batch, scale):
  """IRRA's three terms, each with weight 1, and their sum."""
  labels = labels_of(batch["ids"]).to(out["image_feature"].dtype)
  terms = dict(
    sdm=sdm(out["image_feature"], out["text_feature"], labels, scale, keepdim=False),
    id=identity(out["image_classes"], out["text_classes"], batch["ids"]),
    mlm=mlm(out["mlm_logits"].flatten(0, 1), batch["mlm_labels"].flatten()),
  )
  return {**terms, "total": terms["sdm"] + terms["id"] + terms["mlm"]}


def group_of(name):
  """(factor of the learning rate, weight decay) by a parameter's name.

  Three rules in this order, the last that matches sets the factor; "bias" alone
  changes the decay, so the biases of the two heads keep 0.
  """
  factor, decay = 1.0, WEIGHT_DECAY
  if "cross" in name:
    factor = HEAD_FACTOR
  if "bias" in name:
    factor, decay = BIAS_FACTOR, 0.0
  if "classifier" in name or "mlm_head" in name:
    factor = HEAD_FACTOR
  return factor, decay


def epoch_factor(epoch):
  """What epoch 0, 1, ... multiplies every learning rate with: warm-up, then cosine."""
  if epoch < WARMUP_EPOCHS:
    done = epoch / WARMUP_EPOCHS
    return WARMUP_FACTOR * (1 - done) + done
  done = (epoch - WARMUP_EPOCHS) / (TOTAL_EPOCHS - WARMUP_EPOCHS)
  return 0.5 * (1 + math.cos(math.pi * done))


def optimizer_of(named_parameters, base):
  """(Adam with one group a parameter, in order; schedule to step once an epoch)."""
  groups = []
  for name, value in named_parameters:
    factor, decay = group_of(name)
    groups.append(dict(params=[value], lr=base * factor, weight_decay=decay))
  optimizer = torch.optim.Adam(groups, lr=base, betas=BETAS, eps=EPSILON)
  return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, epoch_factor)
