"""The dictionaries that travel between input, model, losses and evaluation.

Batch (numpy from the pipeline, one process's rows; global `jax.Array` in the step):
  image     uint8 [B, H, W, 3] RGB, normalised by the model on device; or float32,
            then taken as normalised already
  text      int32 [B, L] token ids: start, words, end, then padding (id 0)
  ids       int32 [B] training label of the identity, 0..N-1
  image_id  int32 [B] index of the record in the dataset
  example   int32 [B] which caption it is: its index among those of the dataset that can
            be trained on, 0..N-1, whatever the order (data/captions.py); of the
            stand-in where the row shows one
  replaced  int32 [B] -1, or the index of a record whose picture could not be read
            (of a stream: or whose caption has no words) and that this example stands
            in for
and what data.views asks for (data/views.py), N patches of the picture:
  region    bool [B, N] patches that the box of the region touches, row-major; all of
            them, or those that padding leaves, where a record has no region
  phrase    int32 [B, L] the words about it, as `text`: the caption where it has none
  phrase_id int32 [B] equal where phrases are, and above all `ids`; `ids` where the
            phrase is the caption
  eda       int32 [B, L] the caption, augmented, as `text`
  masked    int32, as `text`, with some words masked
  labels    int32, as `text`: the id that was there, -1 where none was masked
  attributes int32 [B, A] 0: the first prompt of a pair is true of the picture, 1: the
            second, -1: not known (data/prompts.py)

Model outputs (`models/dual_encoder.py`), D = joint dimension, K queries of width W:
  image, text              float32 [B, D] unit rows (class token; end-of-text token)
  image_feature, text_feature  float32 [B, D] the same before division by the length
  image_tokens             [B, T, D] the whole projected sequence
  text_tokens, text_mask   [B, L, D], bool [B, L] (True up to end-of-text)
  image_parts, text_parts  float32 [B, K, W] granularity decoder outputs
  pair_logits              float32 [P] matcher; pair_classes [P, N + 1] identity head
  image_classes, text_classes  float32 [B, N] identity head of each modality
  words                    float32 [B, L, V] masked language head
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct

Batch = dict[str, jax.Array]
Outputs = dict[str, jax.Array]
Params = dict[str, Any]
Metrics = dict[str, jax.Array]
# grad_fn(params, batch, key) -> ((loss, metrics), gradient of the parameters)
GradFn = Callable[[Params, Batch, jax.Array], tuple[tuple[jax.Array, Metrics], Params]]


class TrainState(struct.PyTreeNode):
  """All that a training step reads and writes; what a checkpoint's `state` holds.

  Attributes:
    step: int32 [], number of updates done.
    params: float32 tree of the model's parameters.
    opt_state: the optimizer's state.
    scores: float16 [N, L], of every token of every caption at its last visit
      (tpr_jax/score_table.py); None where no loss needs them.
  """

  step: jax.Array
  params: Params
  opt_state: Any
  scores: jax.Array | None = None
