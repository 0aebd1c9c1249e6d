"""Span masking again, in plain Python: lists, sets, `random.Random`; nothing shared."""


def choose(ids, continues, rand, *, rule, end_id, share, most, span_share, longest):
  """The set of places that are masked."""
  if rule == "released":
    candidates = list(range(1, len(ids)))
    n_pred = min(most, max(1, round(len(ids) * share)))
  else:
    candidates = list(range(1, ids.index(end_id)))
    n_pred = min(most, max(1, round(len(candidates) * share)))
  last = max(candidates)
  rand.shuffle(candidates)
  collected = set()
  for candidate in candidates:
    if len(collected) >= n_pred:
      break
    if candidate in collected:
      continue
    length = rand.randint(2, longest) if rand.random() < span_share else 1
    left, right = candidate, candidate + length - 1  # both included
    while continues[ids[left]]:
      left -= 1
    while right + 1 <= last and continues[ids[right + 1]]:
      right += 1
    for place in range(left, right + 1):
      if place > last:
        break
      collected.add(place)
  collected = sorted(collected)
  rand.shuffle(collected)
  return set(collected[:n_pred])
