"""The files of a matrix, each written whole or not at all."""

import os
import pathlib

from tpr_jax import config as configs
from tpr_jax.matrix import latex, long_csv, picture, table
from tpr_jax.matrix.results import Summary


def write(out: pathlib.Path, summary: Summary, *, pictures: bool) -> list[str]:
  """Writes matrix.json, .txt, .md, .csv, .tex and, if asked to, .png to `out`.

  Returns:
    The names of the files; a picture of nothing is none, and an older one goes.
  """
  configs.write_json(out / "matrix.json", summary)
  found = dict(
    txt=table.terminal(summary) + "\n",
    md=table.markdown(summary),
    csv=long_csv.text(summary),
    tex=latex.tabular(summary),
  )
  for kind, text in found.items():
    _replace(out / f"matrix.{kind}", text.encode())
  drawn = picture.draw(summary) if pictures else None
  if drawn is not None:
    _replace(out / "matrix.png", drawn)
  elif pictures:
    (out / "matrix.png").unlink(missing_ok=True)
  names = ["json", *found] + (["png"] if drawn is not None else [])
  return [f"matrix.{kind}" for kind in names]


def _replace(path: pathlib.Path, content: bytes) -> None:
  partial = path.with_name(f".{path.name}.partial")
  partial.write_bytes(content)
  os.replace(partial, path)
