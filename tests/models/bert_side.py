"""The text side of an MRA model, as tests put it together; and the golden tiny BERT."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.reference import make_bert_golden
from tpr_jax.core import tree
from tpr_jax.models.bert import BertTower
from tpr_jax.models.itm import Itm
from tpr_jax.models.projection import BinProjection, TokenProjection
from tpr_jax.models.tied_words import TiedWords

PATH = pathlib.Path(__file__).parent / "golden" / "bert_tiny.npz"
_SIZES = make_bert_golden.SIZES
FIELDS = dict(
  vocab_size=_SIZES["vocab_size"],
  length=_SIZES["max_position_embeddings"],
  width=_SIZES["hidden_size"],
  layers=_SIZES["num_hidden_layers"],
  heads=_SIZES["num_attention_heads"],
  hidden=_SIZES["intermediate_size"],
  fusion_layer=make_bert_golden.FUSION_LAYER,
  image_width=make_bert_golden.IMAGE_WIDTH,
)
BASE = dict(vocab_size=30_522, length=512, width=768, layers=12, heads=12, hidden=3072)
BASE |= dict(fusion_layer=6, image_width=1024)


class Side(nn.Module):
  """Every part, by the names that convert/bert.py has for them."""

  text: BertTower
  words: TiedWords
  itm: Itm
  image_projection: nn.Module
  text_projection: nn.Module

  @nn.compact
  def __call__(self, ids, image_tokens, train=False):
    """What a training step computes of a batch: each part once."""
    temperature = self.param("temperature", nn.initializers.constant(0.07), ())
    states = self.text.text(ids, train)
    pairs = self.text.fusion(states, ids != 0, image_tokens, train=train)
    both = self.text(ids, image_tokens, train)
    return dict(
      image=self.image_projection(image_tokens, train=train) / temperature,
      text=self.text_projection(states, train=train),
      itm=self.itm(pairs[:, 0]),
      words=self.words(both, self.text.words()),
    )


def side(fields=FIELDS, joint_dim=2048, **overrides) -> Side:
  """joint_dim: 256 has the linear projections, anything else those of bins."""
  made = dict(image=TokenProjection(joint_dim), text=TokenProjection(joint_dim))
  if joint_dim != 256:
    made = dict(image=BinProjection(joint_dim))
    made |= dict(text=BinProjection(joint_dim, first=True))
  return Side(
    BertTower(**{**fields, **overrides}),
    TiedWords(),
    Itm(),
    image_projection=made["image"],
    text_projection=made["text"],
  )


@functools.cache
def shapes(full: bool = False, joint_dim: int = 2048) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every leaf of `side`; full: of BERT-base and Swin-B's tokens."""
  fields = BASE if full else FIELDS
  made = side(fields, joint_dim)
  ids = jnp.zeros((2, 7), jnp.int32)
  tokens = jnp.zeros((2, 5, fields["image_width"]))
  found = jax.eval_shape(made.init, jax.random.key(0), ids, tokens)["params"]
  return tree.shapes(found)


def load() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """(weights float32 under MRA's names without prefix, inputs and outputs)."""
  with np.load(PATH) as file:
    arrays = {name: file[name] for name in file.files}
  start = "weights/"
  weights = {
    name.removeprefix(start): value.astype(np.float32)
    for name, value in arrays.items()
    if name.startswith(start)
  }
  return weights, {k: v for k, v in arrays.items() if not k.startswith(start)}
