"""The two commands: `--mode=index` and `--mode=search`."""

import json
import sys

from tpr_jax.search import indexing, showing
from tpr_jax.search.encoder import Place
from tpr_jax.search.index import Index
from tpr_jax.search.settings import Indexing, Searching


def index(asked: Indexing) -> int:
  """-> exit status. Raises as `indexing.Indexer`."""
  indexing.Indexer(asked, Place(asked.model, asked.load))()
  return 0


def search(asked: Searching) -> int:
  """-> exit status. Raises as `Index.search`."""
  found = Index.open(asked.index, model=asked.model, exact=asked.exact)
  answer = found.search(
    asked.query,
    image=asked.image,
    top=asked.top,
    where=asked.where,
    image_weight=asked.image_weight,
    false_alarms=asked.false_alarms,
    rerank=asked.rerank,
  )
  if asked.json:
    whole = showing.plain(asked, found.about, answer)
    print(json.dumps(whole, indent=1, ensure_ascii=False))
  else:
    print(showing.table(answer))
    print(showing.counted(answer))
    if verdict := showing.verdict(answer, asked.false_alarms):
      print(verdict)
  if asked.sheet is not None:
    showing.write(asked, found.about, answer)
    # Standard output is the answer's alone: a program may read it.
    print(f"Sheet: {asked.sheet}", file=sys.stderr if asked.json else sys.stdout)
  return 0
