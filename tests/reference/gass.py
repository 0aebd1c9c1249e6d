"""GA-DMS's token scores again: numpy, float64, loops over everything.

From the page of equations, not from tpr_jax: a pre-LN text tower whose attention output
before the projection can be moved at the end token, central differences of the cosine
by that move, pooling by lists, and sums written out.
"""

import numpy as np

STEP = 1e-5


def layer_norm(x, scale, bias, epsilon=1e-5):
  mean = x.mean(-1, keepdims=True)
  return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon) * (
    scale
  ) + bias


def dense(x, p):
  return x @ p["kernel"] + p.get("bias", 0.0)


def attend(q, k, v, heads):
  """One caption, [L, D] x 3 -> ([L, D], [L, L] mean over heads); causal."""
  length, width = q.shape
  size, out, maps = width // heads, np.zeros_like(q), []
  for h in range(heads):
    part = slice(h * size, (h + 1) * size)
    logits = q[:, part] @ k[:, part].T / np.sqrt(size)
    for i in range(length):
      logits[i, i + 1 :] = -np.inf
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    out[:, part] = weights @ v[:, part]
    maps.append(weights)
  return out, np.mean(maps, axis=0)


def tower(p, ids, heads, moves=None, watched=0, watched_heads=None, target="attention"):
  """One caption int [L] -> (feature [D], [(q, k, v, A)] of the last `watched` blocks).

  moves: [watched, width] added at the end token.
  """
  x = p["token_embedding"][ids] + p["position_embedding"][: len(ids)]
  end, blocks, seen = int(np.argmax(ids)), p["blocks"], []
  count = len(blocks)
  for i in range(count):
    b, at = blocks[f"block_{i}"], i - (count - watched)
    h = heads if at < 0 else watched_heads or heads
    y = layer_norm(x, b["ln_1"]["scale"], b["ln_1"]["bias"])
    q, k, v = np.split(dense(y, b["attn"]["qkv"]), 3, axis=1)
    a, weights = attend(q, k, v, h)
    if at >= 0:
      seen.append((q, k, v, weights))
      if moves is not None and target == "attention":
        a[end] += moves[at]
    x = x + dense(a, b["attn"]["out"])
    y = dense(layer_norm(x, b["ln_2"]["scale"], b["ln_2"]["bias"]), b["mlp"]["fc"])
    x = x + dense(y / (1 + np.exp(-1.702 * y)), b["mlp"]["proj"])
    if at >= 0 and moves is not None and target == "state":
      x[end] += moves[at]
  x = layer_norm(x, p["ln_final"]["scale"], p["ln_final"]["bias"])
  return dense(x, p["projection"])[end], seen


def cosine(a, b):
  return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def gradients(p, ids, image, heads, watched, **options):
  """[watched, width]: the cosine with the image, by each move, by differences."""
  width = p["position_embedding"].shape[1]
  found = np.zeros((watched, width))
  for layer in range(watched):
    for d in range(width):
      both = []
      for sign in (1, -1):
        moves = np.zeros((watched, width))
        moves[layer, d] = sign * STEP
        feature, _ = tower(p, ids, heads, moves, watched, **options)
        both.append(cosine(feature, image))
      found[layer, d] = (both[0] - both[1]) / (2 * STEP)
  return found


def pool(x, scales):
  """MSP: [L, D] -> [L, D]."""
  length, total = len(x), np.zeros_like(x)
  for c in scales:
    groups = [x[i : i + c].mean(0) for i in range(0, length, c)]
    for i in range(length):
      at = max(0.0, (i + 0.5) * len(groups) / length - 0.5)
      low = int(at)
      high = min(low + 1, len(groups) - 1)
      total[i] += (1 - (at - low)) * groups[low] + (at - low) * groups[high]
  return total / len(scales)


def weight(q, k, end, scales=(1, 2), rows=None):
  """w [L]; rows: so many first positions take part."""
  rows = len(q) if rows is None else rows
  q, k = pool(q[:rows], scales), pool(k[:rows], scales)
  w = np.array([cosine(q[end], k[j]) for j in range(rows)])
  return (w - w.min()) / (w.max() - w.min() + 1e-8)


def score_of_layer(g, v, w, attention, end, denominator="attention"):
  """I Sa: [L], 0 but at words."""
  length = len(w)
  importance = [
    sum(g[d] * v[j, d] * w[j] for d in range(len(g))) for j in range(length)
  ]
  words = range(1, end)
  if denominator == "attention":
    below = sum(attention[j] for j in words)
  else:
    below = sum(importance)
  found = np.zeros(length)
  for j in words:
    found[j] = importance[j] * attention[j] / (below + 1e-8)
  return found


def scores(p, ids, image, heads, watched, *, denominator="attention", **options):
  """s of one caption, normalised by itself, [L]."""
  end = int(np.argmax(ids))
  _, seen = tower(p, ids, heads, None, watched, **options)
  slopes = gradients(p, ids, image, heads, watched, **options)
  total = np.zeros(len(ids))
  for (q, k, v, maps), g in zip(seen, slopes, strict=True):
    w = weight(q, k, end)
    total += score_of_layer(g, v, w, maps[end], end, denominator)
  total = np.maximum(total / watched, 0.0)
  low, high = total.min(), total.max()
  return (total - low) / (high - low) if high > low else np.zeros(len(ids))
