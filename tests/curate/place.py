"""Two small datasets as sources, and the files of a build as a person sees them."""

import json

from tests.curate import fake
from tpr_jax.curate import build
from tpr_jax.data import build as data


def files(tmp_path, server, *more, rewrites=2):
  """Two folders of files, rewritten by a server."""
  one, two = tmp_path / "one", tmp_path / "two"
  if not one.exists():
    fake.people(one, count=4)
    fake.people(two, count=3, first=70)
  words = [f"sources.icfg_pedes.root={one}", "text.tokenizer=people"]
  words += [f"rewrites={rewrites}", "rewriters.first.model=tiny", *more]
  if server is not None:
    words.append(f"rewriters.first.base_url={server.url}")
  made = fake.config(*words, value="configs/cross.py:sources=icfg_pedes").unlock()
  made.sources.other = made.sources.icfg_pedes.copy_and_resolve_references()
  made.sources.other.root = str(two)
  return made.lock()


def load(out):
  return data.dataset("folder", out / build.DATASET, "test")


def lines(path):
  return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def edit(path, change):
  """What a person does to review.jsonl."""
  rows = [change(row) for row in lines(path)]
  text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
  path.write_text(text, "utf-8")
