"""One entry of `config.evals`: its scores, and the files they leave.

Shared by a run's evaluation, that of any model, and the cells of a matrix.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from tpr_jax import bad_data, encoding, evaluate, rankings, saliency, saliency_files
from tpr_jax import config as configs
from tpr_jax.core import processes
from tpr_jax.core.types import Params
from tpr_jax.data import examples
from tpr_jax.data.record import Dataset
from tpr_jax.data.tokenizer import Tokenizer
from tpr_jax.data.transforms import Pipe


def towers(
  encoder: encoding.Encoder,
  params: Params,
  data: Dataset,
  *,
  tokenizer: Tokenizer,
  pipe: Pipe,
  length: int,
  batch: int,
) -> saliency.Towers:
  """The towers of an evaluation, as its saliency takes them: compiled already."""
  tokens = lambda texts: tokenizer.encode(texts, length)[0]
  return saliency.Towers(
    picture=lambda at: examples.load_picture(data, at, pipe, pipe.size, None),
    images=lambda images: encoder.images(params, images, batch),
    texts=lambda texts: encoder.texts(params, tokens(texts), batch),
  )


def is_control(entry: Mapping[str, Any]) -> bool:
  """Whether its texts are of other people on purpose."""
  return entry["note"].startswith("control")


def score(
  name: str,
  features: encoding.Features,
  data: Dataset,
  *,
  entry: Mapping[str, Any],
  how: Mapping[str, Any],
  mesh: Mesh,
  folder: pathlib.Path | None,
  say: Callable[[str], None] = print,
  top: int = evaluate.TOP,
  again: Callable[..., evaluate.Evaluation] | None = None,
  towers: saliency.Towers | None = None,
) -> dict[str, dict[str, Any]]:
  """{name: scores} of `features` as results.json has them; writes rankings/NAME.npz.

  With `save_features` also features/NAME.npz, and with `towers` saliency/NAME.npz.

  Args:
    entry: of `config.evals` (configs/common.evaluation).
    how: `config.eval`.
    folder: that the files go to; None: none are written. One of several processes
      writes; no other goes on before it has.
    top: images of each query that `again` is given.
    again: what makes another ranking of the first one (two_stage.score): its scores
      and its file are NAME.reranked.

  Raises:
    EvaluationError: as `evaluate.score`.
    ConfigError: intervals that cannot be made.
  """
  with configs.errors():
    intervals = evaluate.bootstrap(how)
  common = dict(group_by=entry["group_by"], intervals=intervals, mesh=mesh)
  found = evaluate.score(
    features, data, i2t=entry["i2t"], msd_variant=how["msd_variant"], top=top, **common
  )
  scored = {name: found}
  if again is not None:
    scored[f"{name}{rankings.RERANKED}"] = again(found, say=say, **common)
  for sentence in found.scores.get("incomplete", {}).get("says", ()):
    say(f"    WARNING, {name}: {sentence}.")
  for line in features.damage.lines():
    say(f"    {line}")
  explained = _explained(found, data, entry, how, towers)
  with processes.together():
    if folder is not None:
      _write(folder, name, scored, explained)
      bad_data.write(folder, features.damage, name)
    if folder is not None and how.get("save_features", False):
      path = folder / "features" / f"{name}.npz"
      evaluate.save(features, data, path, group_by=entry["group_by"])
      say(f"    features: {path}")
  flip = how.get("flip", False) and "features averaged with those of mirror images"
  notes = {
    label: [entry["note"], flip, one.scores.get("note")]
    for label, one in scored.items()
  }
  return {
    label: {**one.scores, "note": "; ".join(filter(None, notes[label]))}
    for label, one in scored.items()
  }


def _write(
  folder: pathlib.Path,
  name: str,
  scored: Mapping[str, evaluate.Evaluation],
  explained: saliency_files.Saliency | None,
) -> None:
  """rankings/ and saliency/ of one entry, in the place of an earlier evaluation's."""
  (folder / "rankings").mkdir(parents=True, exist_ok=True)
  again = folder / "rankings" / f"{name}{rankings.RERANKED}.npz"
  again.unlink(missing_ok=True)
  for label, one in scored.items():
    np.savez_compressed(folder / "rankings" / f"{label}.npz", **one.rankings)
  path = folder / "saliency" / f"{name}.npz"
  path.unlink(missing_ok=True)
  if explained is not None:
    saliency_files.write(path, explained)


def _explained(
  found: evaluate.Evaluation,
  data: Dataset,
  entry: Mapping[str, Any],
  how: Mapping[str, Any],
  towers: saliency.Towers | None,
) -> saliency_files.Saliency | None:
  """What words and patches of a few queries weigh; nothing is learnt from a control."""
  with configs.errors():
    total = len(found.rankings["query_record"])
    chosen = saliency.choose(total, how.get("saliency", saliency.QUERIES))
  if towers is None or not chosen or is_control(entry):
    return None
  return saliency.of_queries(chosen, found.rankings, data, towers)
