"""`--mode=eval --model=PLACE`: the scores of any model that `tpr_jax.load` takes.

The config says on what: `evals` and `data`, and how: `eval`. The model brings the rest:
towers, picture size, resize filter, tokenizer and text length.
"""

import dataclasses
import pathlib
import re
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from tpr_jax import config as configs
from tpr_jax import (
  encoding,
  entries,
  eval_data,
  loading,
  run_folder,
  saliency,
  weights_id,
)
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import sharding, tree
from tpr_jax.core.times import duration
from tpr_jax.data import eval_batches, transforms
from tpr_jax.data.record import Dataset
from tpr_jax.pretrained import Pretrained
from tpr_jax.report import report, tables
from tpr_jax.weights_id import WeightsId

# Fields of a run's config that mean something here, if they are given by hand.
_MODEL_FIELDS = ("model.activation", "model.image_size", "model.dtype")
_TEXT_FIELDS = ("text.tokenizer", "text.length")
_USED = re.compile(
  r"(evals|eval(?!\.(rerank|legacy|localise))|mesh|data\.options)(\.|$)|data\.(name|root|threads)$"
)


@dataclasses.dataclass(frozen=True)
class Options:
  """How models are loaded; what is None (or "") is the model's own. See `loading.load`.

  Attributes:
    image_size: (height, width).
    dtype: of the computation; rows and parameters are float32 always.
  """

  image_size: tuple[int, int] | None = None
  text_length: int | None = None
  tokenizer: str = ""
  activation: str = ""
  dtype: str = "float32"

  def load(self, place: str) -> Pretrained:
    """Raises: as `loading.load`; ConfigError for an unknown activation or dtype."""
    try:
      return loading.load(
        place,
        image_size=self.image_size,
        text_length=self.text_length,
        tokenizer=self.tokenizer or None,
        activation=self.activation or None,
        dtype=self.dtype,
      )
    except ConvertError:  # is a ValueError, and says more
      raise
    except ValueError as error:
      raise configs.ConfigError(f"{place}: {error}") from error


class Model:
  """A loaded model that encodes datasets.

  Args:
    found: towers and what belongs to them.
    mesh: batches are split over it; every device holds all parameters.
    batch, threads: pictures at a time, and threads that decode them.
    flip: also encodes mirror images (encoding.py).
    encoders: of other models, by module: towers of the same kind are not compiled
      again. This model's is added. All have the same `flip`.
  """

  def __init__(
    self,
    found: Pretrained,
    mesh: Mesh,
    *,
    batch: int,
    threads: int,
    flip: bool = False,
    encoders: dict[Any, encoding.Encoder] | None = None,
  ):
    self.found = found
    self._batch, self._threads = batch, threads
    encoders = {} if encoders is None else encoders
    if found.model not in encoders:
      encoders[found.model] = encoding.Encoder(found.model, mesh, flip=flip)
    self._encoder = encoders[found.model]
    self._params = jax.device_put(found.params, sharding.replicated(mesh))
    height, width = found.image_size
    self._pipe = transforms.build(f"resize({height},{width},{found.filter!r})")

  def caption_report(self, dataset: Dataset) -> str:
    """How many captions are cut, as a line."""
    found = self.found
    return eval_batches.caption_report(dataset, found.tokenizer, found.text_length)

  def encode(self, dataset: Dataset) -> encoding.Features:
    """float32 is full float32 on any device, as in `Pretrained`.

    Raises:
      EvaluationError: as `encoding.Encoder`.
    """
    with self._precision():
      return self._encoder(
        self._params,
        dataset,
        tokenizer=self.found.tokenizer,
        pipe=self._pipe,
        length=self.found.text_length,
        batch=self._batch,
        threads=self._threads,
      )

  def towers(self, dataset: Dataset) -> saliency.Towers:
    """As `entries.score` takes them; of `encode`'s precision."""
    found = self.found
    plain = entries.towers(
      self._encoder,
      self._params,
      dataset,
      tokenizer=found.tokenizer,
      pipe=self._pipe,
      length=found.text_length,
      batch=self._batch,
    )

    def precise(tower: Callable[[Any], Any]) -> Callable[[Any], Any]:
      def encode(items: Any) -> Any:
        with self._precision():
          return tower(items)

      return encode

    return dataclasses.replace(
      plain, images=precise(plain.images), texts=precise(plain.texts)
    )

  def _precision(self) -> Any:
    full = self.found.fields["dtype"] == "float32"
    return jax.default_matmul_precision("highest" if full else None)

  def about(self, identity: WeightsId) -> dict[str, Any]:
    """Plain JSON values: which weights, and how pictures and texts are read."""
    found = self.found
    return dict(
      **dataclasses.asdict(identity),
      detail=found.detail,
      parameters=tree.count(found.params),
      image_size=list(found.image_size),
      filter=found.filter,
      text_length=found.text_length,
      vocabulary=found.tokenizer.vocab_size,
      activation=found.fields["activation"],
      dtype=found.fields["dtype"],
      resized=list(found.resized),
      unused=list(found.unused),
    )


def described(model: Pretrained) -> str:
  """One line: what the model brings along."""
  height, width = model.image_size
  return (
    f"{height} x {width} pixels ({model.filter}), {model.text_length} tokens of"
    f" {model.tokenizer.vocab_size:,}, {model.fields['dtype']}"
  )


def options(config: ConfigDict, given: Collection[str]) -> Options:
  """What the config of a run says about loading, where it was asked to.

  `model.activation` and `model.dtype` count wherever they are set; sizes and tokenizer
  belong to the model unless they are among the overrides `given`.

  Raises:
    ConfigError: an override that would do nothing.
  """
  known = {*_MODEL_FIELDS, *_TEXT_FIELDS}
  # "model.image_size[0]" is an override of "model.image_size".
  names = {field.partition("[")[0] for field in given}
  idle = sorted(n for n in names if n not in known and not _USED.match(n))
  if idle:
    raise configs.ConfigError(
      f"--config.{idle[0]} would do nothing with --model, which brings its own towers;"
      " of the config count data.name, data.root, data.options, data.threads, evals,"
      f" eval, mesh and, for loading, {', '.join(sorted(known))}"
    )
  chosen = lambda name, value: value if name in names else None
  dtype = config.model.dtype
  return Options(
    image_size=chosen("model.image_size", tuple(config.model.image_size)),
    text_length=chosen("text.length", config.text.length),
    tokenizer=_tokenizer(config.text.tokenizer) if "text.tokenizer" in names else "",
    activation=config.model.get("activation") or "",
    dtype="float32" if dtype == "auto" else dtype,
  )


def _tokenizer(spec: str) -> str:
  return "" if spec == "auto" else spec  # "auto" in a config: the weights' own


def run(
  place: str, config: ConfigDict, given: Collection[str], out: pathlib.Path
) -> dict[str, Any]:
  """Scores every entry of `config.evals`; prints the table.

  Writes results.json, run.json, rankings/NAME.npz and the report to `out`.

  Args:
    place: what `loading.load` takes.
    given: fields that were overridden by hand, as "eval.batch".

  Returns:
    What results.json holds.

  Raises:
    ConfigError: `out` is a run's folder, or an override that would do nothing.
    Others: as `loading.load`, `eval_data.dataset` and `entries.score`.
  """
  started = time.time()
  check_free(out)
  how = options(config, given)
  with configs.errors():
    mesh = sharding.make_mesh(config.mesh)
  datasets = {name: eval_data.dataset(config, name) for name in config.evals}
  identity = weights_id.of(place)
  model = Model(
    how.load(place),
    mesh,
    batch=config.eval.batch,
    threads=config.data.threads,
    flip=config.eval.get("flip", False),
  )
  print(f"Evaluating {place}{_detail(model.found)}.")
  print(f"The model's own: {described(model.found)}.")
  print("Of the config only data, evals, eval and mesh count.", flush=True)
  about = model.about(identity)
  results = dict(
    model=about,
    selection=f"{place}{_detail(model.found)}",
    msd_variant=config.eval.msd_variant,
    evals={},
  )
  for name, dataset in datasets.items():
    begun = time.time()
    print(f"  {name}: {model.caption_report(dataset)}", flush=True)
    results["evals"] |= entries.score(
      name,
      model.encode(dataset),
      dataset,
      entry=config.evals[name],
      how=config.eval,
      mesh=mesh,
      folder=out,
      towers=model.towers(dataset),
    )
    print(f"    scored in {duration(time.time() - begun)}", flush=True)
  _write(out, results, started)
  print("\n" + tables.results_table(results))
  page = report.write(out, datasets)
  print(f"\nWritten: {out / 'results.json'}, {page}", flush=True)
  return results


def _detail(found: Pretrained) -> str:
  return f", {found.detail}" if found.detail else ""


def check_free(out: pathlib.Path) -> None:
  """Results of a run, or of features, must not be lost to a mistyped folder.

  Raises:
    ConfigError: `out` holds them.
  """
  there = configs.read_json(out / "results.json")
  if (out / "config.json").exists() or (there and "model" not in there):
    raise configs.ConfigError(
      f"--out={out} holds the results of a run or of features; give another folder"
    )


def _write(out: pathlib.Path, results: dict[str, Any], started: float) -> None:
  stamp = lambda t: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))
  run = dict(
    **run_folder.provenance(),
    parameters=results["model"]["parameters"],
    started=stamp(started),
    finished=stamp(time.time()),
    seconds=dict(evaluate=time.time() - started),
  )
  out.mkdir(parents=True, exist_ok=True)
  configs.write_json(out / "run.json", run)
  configs.write_json(out / "results.json", results)
