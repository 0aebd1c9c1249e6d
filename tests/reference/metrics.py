"""The retrieval metrics again: one query at a time, whole argsort, float64."""

import math

import numpy as np


def rank_list(scores, same):
  """[G] scores, [G] bool -> (columns by rank, ties by column; flags by rank)."""
  order = sorted(range(len(scores)), key=lambda g: (-scores[g], g))
  return np.array(order), np.array([bool(same[g]) for g in order])


def average_precision(flags):
  found, terms = 0, []
  for position, flag in enumerate(flags, start=1):
    if flag:
      found += 1
      terms.append(found / position)
  return sum(terms) / len(terms)


def inverse_negative_penalty(flags):
  last = max(position for position, flag in enumerate(flags, start=1) if flag)
  return sum(flags) / last


def similarity_distribution(s, flags):
  """SD of similarities and flags, multiplied in the order in which they are given."""
  positive = [a for a, flag in zip(s, flags, strict=True) if flag]
  negative = [a for a, flag in zip(s, flags, strict=True) if not flag]
  if not negative or sum(negative) == 0:
    pnr = 1.0
  else:
    x = (sum(positive) / len(positive)) / (sum(negative) / len(negative))
    pnr = 1 - math.exp(-x)
  terms = []
  for j, flag in enumerate(flags, start=1):
    if flag:
      above = sum(a for a, f in zip(s[:j], flags[:j], strict=True) if f)
      terms.append(above / sum(s[:j]) if sum(s[:j]) else sum(flags[:j]) / j)
  return pnr * sum(terms) / len(terms)


def evaluate(scores, query_ids, gallery_ids, variant="paper"):
  """[Q, G] cosines -> list of dicts; None for a query without a match."""
  rows = []
  for score, identity in zip(scores, query_ids, strict=True):
    same = np.array([identity == other for other in gallery_ids])
    if not same.any():
      rows.append(None)
      continue
    order, flags = rank_list(score, same)
    s = (np.asarray(score, np.float64) + 1) / 2
    aligned = s[order] if variant == "paper" else s
    rows.append(
      dict(
        first_rank=1 + int(np.argmax(flags)),
        ap=average_precision(flags),
        inp=inverse_negative_penalty(flags),
        sd=similarity_distribution(list(aligned), list(flags)),
        matches=int(flags.sum()),
        top=order,
      )
    )
  return rows
