"""Attribute prompts of APTM (arXiv:2306.02898): is a sentence true of an image?

Attribute a has two sentences, prompts 2a and 2a + 1, of which label l_a = 0 or 1 of an
image says the first or the second is true; -1: not known, and not counted. With the
cosine s_ip of image i and prompt p and K_a the images whose l_a is known,
  contrast  L = 1/A sum_a 1/|K_a| sum_(i in K_a) H(softmax(s_i,2a ; s_i,2a+1 / temp))
  matching  L = 1/R sum_p 1/|K_p| sum_(i in K_p) H(softmax(logits_ip)), R drawn prompts
where H is the cross entropy against (1 - smoothing) one-hot + smoothing / 2. An
attribute that is known of no image adds 0 and still divides, as in the released code.
The third of the three losses, masked words of prompts, is that of losses/mlm.py, each
prompt with a random image that it is true of (`draw_images`).
Shapes: B images in the GLOBAL batch, A attributes, 2A prompts.
"""

import jax
import jax.numpy as jnp

UNKNOWN = -1


def prompt_labels(labels: jax.Array) -> jax.Array:
  """int [B, A] -> int32 [B, 2A]: 1 where the prompt is true, 0 not, -1 unknown."""
  first = jnp.where(labels == UNKNOWN, UNKNOWN, 1 - labels)
  both = jnp.stack([first, labels], axis=2)
  return both.reshape(labels.shape[0], -1).astype(jnp.int32)


def contrast(
  similarity: jax.Array,
  labels: jax.Array,
  temperature: jax.Array | float,
  *,
  smoothing: float = 0.0,
) -> jax.Array:
  """[B, 2A] cosines of images and prompts -> float32 [A]; their mean is the loss.

  Args:
    labels: int [B, A] in {0, 1, -1}.
    temperature: divides the cosines.

  Raises:
    ValueError: other than two prompts for each attribute, or `smoothing` outside 0..1.
  """
  count = labels.shape[1]
  if similarity.shape[1] != 2 * count:
    raise ValueError(
      f"attributes: {similarity.shape[1]} prompts for {count} attributes; expected two"
      " for each"
    )
  logits = similarity.astype(jnp.float32) / temperature
  return _two_way(logits.reshape(-1, count, 2), labels, smoothing)


def matching(
  logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
  """[B, R, 2] logits of B images with R prompts -> float32 [R]; their mean is the loss.

  Args:
    logits: class 1: a pair, as of the ITM head.
    labels: int [B, R] of the prompts (`prompt_labels`), in {0, 1, -1}.

  Raises:
    ValueError: `smoothing` outside 0..1.
  """
  return _two_way(logits.astype(jnp.float32), labels, smoothing)


def draw_prompts(key: jax.Array, prompts: int, count: int) -> jax.Array:
  """int32 [count] different ones of the prompts, each as likely as another.

  Raises:
    ValueError: fewer than one, or more than there are.
  """
  if not 1 <= count <= prompts:
    raise ValueError(f"attributes: {count} of {prompts} prompts; expected 1 to all")
  return jax.random.permutation(key, prompts)[:count].astype(jnp.int32)


def draw_images(key: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """An image for each prompt, out of those that it is true of, each equally likely.

  Args:
    labels: int [B, P] of the prompts (`prompt_labels`).

  Returns:
    int32 [P] images; bool [P], False: true of none, and the index means nothing.
  """
  true = labels.T == 1
  log_w = jnp.where(true, 0.0, -jnp.inf)
  found = true.any(axis=1)
  log_w = jnp.where(found[:, None], log_w, 0.0)
  return jax.random.categorical(key, log_w, axis=1).astype(jnp.int32), found


def _two_way(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
  """[B, N, 2], int [B, N] -> [N]: the mean over rows whose label is known, or 0."""
  if not 0 <= smoothing <= 1:
    raise ValueError(f"attributes: smoothing={smoothing}; expected 0 to 1")
  known = labels != UNKNOWN
  true = jax.nn.one_hot(jnp.where(known, labels, 0), 2)
  target = (1 - smoothing) * true + smoothing / 2
  loss = -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1)
  total = jnp.sum(jnp.where(known, loss, 0.0), axis=0)
  return total / jnp.maximum(jnp.sum(known, axis=0), 1)
