"""The losses again, in slow numpy: loops over the formulas, float64, nothing shared."""

import numpy as np


def softmax(row):
  e = np.exp(row - row.max())
  return e / e.sum()


def sdm(similarity, ids, scale, image_ids=None, other_image=0.3, eps=1e-8):
  """Rows texts, columns images; [B]: direction text -> image plus image -> text."""
  out = np.zeros(len(ids))
  for s in (similarity, similarity.T):
    for i in range(len(ids)):
      y = np.zeros(len(ids))
      for j in range(len(ids)):
        if ids[i] == ids[j]:
          same_image = image_ids is None or image_ids[i] == image_ids[j]
          y[j] = 1.0 if same_image else other_image
      p, q = softmax(scale * s[i]), y / y.sum()
      out[i] += sum(p[j] * (np.log(p[j]) - np.log(q[j] + eps)) for j in range(len(ids)))
  return out


def infonce(similarity, scale):
  rows = range(len(similarity))
  to_image = [-np.log(softmax(scale * similarity[i])[i]) for i in rows]
  to_text = [-np.log(softmax(scale * similarity[:, i])[i]) for i in rows]
  return (np.array(to_image) + np.array(to_text)) / 2


def hard_negatives(similarity, ids, exclude):
  """For each image its text, for each text its image; None where there is none."""
  count = len(ids)

  def allowed(i, j):
    return ids[i] != ids[j] if exclude == "identity" else i != j

  texts, images = [], []
  for a in range(count):
    others = [i for i in range(count) if allowed(i, a)]
    texts.append(max(others, key=lambda i: similarity[i, a]) if others else None)
    images.append(max(others, key=lambda j: similarity[a, j]) if others else None)
  return texts, images


def bce(logits, labels):
  p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
  return -(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def cross_entropy(logits, labels):
  return np.array(
    [-np.log(softmax(row)[label]) for row, label in zip(logits, labels, strict=True)]
  )


def part_similarity(a, b):
  """[A, K, W], [B, K, W] -> [A, B]: mean over k of the cosine of part k and part k."""
  out = np.zeros((len(a), len(b)))
  for i, x in enumerate(a):
    for j, y in enumerate(b):
      cosines = [
        u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
        for u, v in zip(x, y, strict=True)
      ]
      out[i, j] = np.mean(cosines)
  return out


def itc(image, text, ids, temperature, smoothing=0.0):
  """MRA's ITC from unit features, [B]; both directions, loops over the targets."""
  count = len(ids)
  out = np.zeros(count)
  for a, b in ((image, text), (text, image)):
    for i in range(count):
      p = softmax(np.array([np.dot(a[i], b[j]) / temperature for j in range(count)]))
      equal = sum(ids[i] == ids[k] for k in range(count))
      for j in range(count):
        target = (1 - smoothing) * (ids[i] == ids[j]) / equal + smoothing / count
        out[i] -= 0.5 * target * np.log(p[j])
  return out


def itm_probabilities(similarity, ids, temperature, group):
  """(of each text's image [B, B], of each image's text [B, B]); rows sum to 1, or to 0
  where no other identity is in the batch."""
  count, found = len(ids), []
  for s in (similarity, similarity.T):
    table = np.zeros((count, count))
    for i in range(count):
      start = i // group * group
      near = range(start, start + group)
      p = softmax(np.array([s[i, j] / temperature for j in near]))
      weights = {j: p[j - start] + 1e-5 for j in near if ids[i] != ids[j]}
      if not weights:
        weights = {j: 1.0 for j in range(count) if ids[i] != ids[j]}
      for j, weight in weights.items():
        table[i, j] = weight / sum(weights.values())
    found.append(table)
  return tuple(found)
