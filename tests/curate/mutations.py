"""How often the colour check sees a wrong colour: `python -m tests.curate.mutations`.

Texts of rendered people with one word of colour changed, as a careless rewrite might.
The check compares which colours two texts name, so it cannot see two of them exchanged,
nor one lost that is named elsewhere in the text as well.
"""

import re

import numpy as np

from tpr_jax.curate import checks, lexicon
from tpr_jax.data import build

_WORD = re.compile(r"\b(?:" + "|".join(lexicon.COLOURS) + r")\b", re.I)


def replaced(text, places, rng):
  """One word of colour becomes another one."""
  place = places[rng.integers(len(places))]
  others = [name for name in lexicon.COLOURS if name != place.group().lower()]
  new = others[rng.integers(len(others))]
  return text[: place.start()] + new + text[place.end() :]


def dropped(text, places, rng):
  """One word of colour is left out."""
  place = places[rng.integers(len(places))]
  return text[: place.start()] + text[place.end() :]


def exchanged(text, places, rng):
  """Two different words of colour change places."""
  first = places[0]
  second = next(p for p in places if p.group().lower() != first.group().lower())
  return "".join(
    (
      text[: first.start()],
      second.group(),
      text[first.end() : second.start()],
      first.group(),
      text[second.end() :],
    )
  )


def measure(identities=100):
  """[(kind, granularity, texts, share that the check flags)]."""
  rows = []
  for granularity in ("coarse", "fine"):
    options = dict(granularity=(granularity,), identities=identities, views=1, seed=2)
    records = build.dataset("rendered", None, "test", options).records
    texts = [record.captions[0] for record in records]
    found = [(text, list(_WORD.finditer(text))) for text in texts]
    several = [
      pair for pair in found if len({place.group().lower() for place in pair[1]}) > 1
    ]
    for change in (replaced, dropped, exchanged):
      rng = np.random.default_rng(0)
      seen = [
        checks.colours(change(*pair, rng)) != checks.colours(pair[0])
        for pair in several
      ]
      rows.append((change.__name__, granularity, len(seen), float(np.mean(seen))))
  return rows


if __name__ == "__main__":
  for kind, granularity, texts, share in measure(500):
    print(f"{kind:10} {granularity:7} {texts:4} texts  {share:6.1%} flagged")
