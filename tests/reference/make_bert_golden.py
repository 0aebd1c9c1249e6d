"""Writes tests/models/golden/bert_tiny.npz: a random tiny BERT as transformers runs it.

  pip install torch transformers
  python -m tests.reference.make_bert_golden

`BertForMaskedLM` reads texts, with padding, through all layers. The fusion encoder is
transformers' `BertLayer` with its cross-attention, whose keys and values take image
tokens of another width, called layer by layer: `BertModel` itself has cross-attention
in all layers or in none, and looks at earlier tokens alone. Weights are drawn by numpy
(seeded) and rounded to float16, so that the file holds them exactly.
"""

import pathlib

import numpy as np

PATH = pathlib.Path(__file__).parent.parent / "models" / "golden" / "bert_tiny.npz"
SIZES = dict(
  vocab_size=50,
  hidden_size=32,
  num_hidden_layers=4,
  num_attention_heads=4,
  intermediate_size=80,
  max_position_embeddings=14,
)
FUSION_LAYER, IMAGE_WIDTH, IMAGE_TOKENS, LENGTH, MASK = 2, 24, 6, 10, 4
FAR = -10000.0  # what MRA adds to the logits of tokens that are not looked at


def texts() -> tuple[np.ndarray, np.ndarray]:
  """(ids int32 [4, 10], the same with words masked): start 2, words, end 3, padding 0.

  One text fills the whole length; one has a masked word where it has padding.
  """
  rng = np.random.default_rng(1)
  ids = np.zeros((4, LENGTH), np.int32)
  for row, words in enumerate((3, 8, 1, 6)):
    ids[row, 0], ids[row, words + 1] = 2, 3
    ids[row, 1 : words + 1] = rng.integers(5, 50, words)
  masked = ids.copy()
  masked[[0, 1, 1, 2, 3], [2, 1, 7, 8, 4]] = MASK
  return ids, masked


def images() -> tuple[np.ndarray, np.ndarray]:
  """(tokens float32 [4, 6, 24], mask bool [4, 6])."""
  rng = np.random.default_rng(2)
  tokens = rng.normal(0.0, 1.0, (4, IMAGE_TOKENS, IMAGE_WIDTH)).astype(np.float32)
  mask = np.ones((4, IMAGE_TOKENS), bool)
  mask[1, 3:], mask[2, 0] = False, False
  return tokens, mask


def make() -> dict[str, np.ndarray]:
  """All arrays of the file."""
  import torch
  from transformers import BertConfig, BertForMaskedLM
  from transformers.models.bert.modeling_bert import BertLayer

  config = BertConfig(**SIZES, attn_implementation="eager")
  plain = BertForMaskedLM(config).eval()
  fusing = BertConfig(
    **SIZES, attn_implementation="eager", is_decoder=True, add_cross_attention=True
  )
  layers = torch.nn.ModuleDict()
  for i in range(FUSION_LAYER, SIZES["num_hidden_layers"]):
    layer = BertLayer(fusing)
    for name in ("key", "value"):
      wide = torch.nn.Linear(IMAGE_WIDTH, SIZES["hidden_size"])
      setattr(layer.crossattention.self, name, wide)
    layers[str(i)] = layer.eval()

  rng = np.random.default_rng(0)
  shapes = {k: tuple(v.shape) for k, v in plain.state_dict().items()}
  new = {f"bert.encoder.layer.{k}": v for k, v in layers.state_dict().items()}
  shapes |= {k: tuple(v.shape) for k, v in new.items()}
  weights = {}
  for name, shape in shapes.items():
    if ".decoder." in name:  # tied, both of them
      continue
    scale = 0.3 if len(shape) < 2 else 1.5 / np.sqrt(shape[1])
    drawn = rng.normal(0.0, scale, shape)
    if name.endswith("LayerNorm.weight"):
      drawn = drawn + 1.0
    weights[name] = drawn.astype(np.float16)
  tensors = {k: torch.from_numpy(v.astype(np.float32)) for k, v in weights.items()}
  plain.load_state_dict(tensors, strict=False)
  plain.tie_weights()
  prefix = "bert.encoder.layer."
  layers.load_state_dict({k: tensors[f"{prefix}{k}"] for k in layers.state_dict()})

  def fused(ids, mask):
    """States behind the fusion layers."""
    x = plain.bert.embeddings(torch.from_numpy(ids).long())
    hide = lambda seen: torch.from_numpy(
      np.where(seen, 0.0, FAR)[:, None, None]
    ).float()
    for layer in plain.bert.encoder.layer[:FUSION_LAYER]:
      x = layer(x, hide(mask))
    tokens, image_mask = images()
    for layer in layers.values():
      x = layer(x, hide(mask), torch.from_numpy(tokens), hide(image_mask))
    return x

  (ids, masked), (tokens, image_mask) = texts(), images()
  mask = ids != 0
  with torch.no_grad():
    seen = torch.from_numpy(mask).long()
    read = plain(torch.from_numpy(ids).long(), seen, output_hidden_states=True)
    fusion = fused(ids, mask)
    multi_modal = fused(masked, mask)
    words = plain.cls(multi_modal)
  return {f"weights/{k}": v for k, v in weights.items()} | dict(
    ids=ids,
    masked=masked,
    image_tokens=tokens,
    image_mask=image_mask,
    text=read.hidden_states[FUSION_LAYER].numpy(),
    all_text=read.hidden_states[-1].numpy(),
    text_words=read.logits.numpy(),
    fusion=fusion.numpy(),
    multi_modal=multi_modal.numpy(),
    words=words.numpy(),
  )


def main() -> None:
  PATH.parent.mkdir(exist_ok=True)
  np.savez_compressed(PATH, **make())
  print(f"{PATH}: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
  main()
