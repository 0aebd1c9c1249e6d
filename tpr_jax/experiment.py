"""One experiment: what a config names, built once; evaluation and report of its run.

Training, which needs far more, is training.py."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from tpr_jax import (
  calibrate,
  calibration_files,
  encoding,
  entries,
  eval_data,
  evaluate,
  localise,
  localise_files,
  program,
  rankings,
  run_log,
  run_weights,
  two_stage,
  word_files,
)
from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax.core import processes, sharding, storage
from tpr_jax.core.times import duration
from tpr_jax.core.types import Params
from tpr_jax.cross_initial import CrossInitial
from tpr_jax.data import build as data_build
from tpr_jax.data import eval_batches, kept, tokenizer, transforms
from tpr_jax.data.record import Dataset, DatasetError
from tpr_jax.initial import Initial
from tpr_jax.models import build as model_build
from tpr_jax.report import alarms, looks, report, tables
from tpr_jax.run_folder import RunError, RunFolder


class Experiment:
  """A config and its run folder.

  Args:
    config: a locked config (configs/cfam.py).
    folder: the run folder; made by training when missing.
  """

  def __init__(self, config: ConfigDict, folder: pathlib.Path):
    self.config, self.folder = config, folder
    self.active = jax.process_index() == 0
    self.files = RunFolder(folder, self.active)
    with configs.errors():
      self.mesh = sharding.make_mesh(config.mesh)
      sharding.batch_share(self.mesh)  # or an error, before anything long
    recorded = self.files.shared().get("weights", {})
    self.initial = (
      CrossInitial(config.model, recorded)
      if model_build.is_cross(config.model)
      else Initial(config.model.init_from, config.model.init_allow, recorded)
    )
    with configs.errors():
      self.fields = self._fields()
    auto = config.text.tokenizer == "auto"
    own = self.initial.tokenizer() if auto else ""
    self.tokenizer = tokenizer.build(run_weights.tokenizer_spec(config, own))
    self._encoder: encoding.Encoder | None = None
    self._looker: localise.Looker | None = None
    self._warned: set[str] = set()
    self._val: tuple[Dataset | None] | None = None

  # --- data ---------------------------------------------------------------------

  def training_data(self) -> tuple[Dataset, Dataset | None]:
    """(train, val): val is the named split, or held-out identities, or None."""
    data = self.config.data
    options = data.options.to_dict()
    train = data_build.dataset(data.name, data.root, data.train, options)
    # Held out of the whole split, so that validation is the same for every cut.
    # `get`: for runs older than the field.
    judged, val = kept.judged(train, data.get("filter", "")), None
    if data.val:
      changed = {**options, **data.val_options.to_dict()}
      val = data_build.dataset(data.name, data.root, data.val, changed)
    elif data.val_share:
      train, val = data_build.hold_out(train, data.val_share, data.val_seed)
    self._val = (val,)
    return judged.apply(train) if judged else train, val

  def _validation(self) -> Dataset | None:
    """The second of `training_data`, which is not read again after training."""
    return self.training_data()[1] if self._val is None else self._val[0]

  def eval_data(self, name: str) -> Dataset:
    """The dataset of one entry of `config.evals`."""
    return eval_data.dataset(self.config, name)

  # --- model --------------------------------------------------------------------

  def _fields(self) -> dict[str, Any]:
    """Fields of the model (models/build.py), with those that its weights decide."""
    decided = self.initial.settings(self.config.model.to_dict())
    return run_weights.model_fields(self.config, decided)

  def model(self, num_classes: int) -> Any:
    """The Flax module with the heads that the active losses need."""
    vocab_size = self.tokenizer.vocab_size
    return program.model(
      self.config, self.fields, vocab_size=vocab_size, num_classes=num_classes
    )

  def init_fn(self, model: Any) -> Callable[[jax.Array], Params]:
    """key -> fresh parameters of the model."""
    return program.init_fn(self.config, model, self.tokenizer.end_id)

  def _towers(self, model: Any) -> encoding.Encoder:
    if self._encoder is None:
      flip = self.config.eval.get("flip", False)  # for runs older than the field
      self._encoder = encoding.Encoder(model, self.mesh, flip=flip)
    return self._encoder

  def _evaluate(
    self, model: Any, params: Any, dataset: Dataset, stage: Any = None
  ) -> encoding.Features:
    data = self.config.data
    return self._towers(model)(
      params,
      dataset,
      tokenizer=self.tokenizer,
      pipe=transforms.build(data.eval_image),
      length=self.config.text.length,
      batch=self.config.eval.batch,
      threads=data.threads,
      stage=stage,
    )

  def validate(self, model: Any, params: Any, dataset: Dataset) -> Mapping[str, float]:
    """Scores of text-to-image retrieval while training, on the validation split."""
    features = self._evaluate(model, params, dataset)
    found = evaluate.score(features, dataset, mesh=self.mesh).scores
    for sentence in found.get("incomplete", {}).get("says", ()):
      said = f"WARNING, {dataset.name}/{dataset.split}: {sentence}."
      if said not in self._warned:  # once, not at every validation
        self._warned.add(said)
        self.say("\n".join([said, *features.damage.lines()]))
    return found["t2i"]

  # --- evaluation ---------------------------------------------------------------

  def evaluate(self) -> None:
    """Scores every entry of `config.evals` with the selected checkpoint; reports.

    Several processes share the work and leave each other when it is done: the first
    draws the report, which may take longer than the others would wait for it.
    """
    started = time.time()
    processes.barrier("evaluate")  # the first one has written what training found
    run = self.files.shared()
    with processes.together():
      saved = self._trained(run)
    step, selection = run_weights.selected(saved, self.config.train.select)
    if not self.config.evals:  # pre-training, of which nothing is tested here
      saved.close()
      self.say(f"Step {step}: {selection}. No test is named in config.evals.")
      self._finish(run, started)
      return
    with configs.errors():
      self.reranking()  # before anything is encoded
      model = self.model(run["num_classes"])
      localise.settings(self.config.eval, model)
    shapes = jax.eval_shape(self.init_fn(model), jax.random.key(0))
    params_sh = sharding.state_shardings(shapes, self.mesh, self.config.shardings)
    params = saved.restore_params(step, ckpt.abstract(shapes, params_sh))
    saved.close()
    self.say(f"Evaluating step {step}: {selection}.")
    results = {"selected_step": step, "selection": selection}
    results |= {"msd_variant": self.config.eval.msd_variant, "evals": {}}
    datasets, legacy = self._with_regions(), self._legacy() if self.active else {}
    calibrated = self._calibrated(model, params)
    for name in self.config.evals:
      if name not in datasets:
        with processes.together():
          datasets[name] = self.eval_data(name)
      found = self._evaluate_entry(name, datasets[name], model, params, calibrated)
      found[name] |= legacy.get(name, {})
      results["evals"] |= found
    self._finish(run, started, results)
    said = [
      tables.results_table(results),
      *alarms.lines(results),
      *looks.lines(results),
    ]
    self.say("\n".join(["", *said]))
    if self.active:
      self.report(datasets)

  def _with_regions(self) -> dict[str, Dataset]:
    """All datasets, where phrases are to be looked for in them; else none yet.

    Raises:
      ConfigError: then none of them has a region.
    """
    if not self.config.eval.get("localise", 0):
      return {}
    with processes.together():
      found = {name: self.eval_data(name) for name in self.config.evals}
    if not any(map(localise.has_regions, found.values())):
      raise configs.ConfigError(
        f"eval.localise={self.config.eval.localise}: none of config.evals"
        f" ({', '.join(found)}) has regions, whose boxes say where to look. Name data"
        " that has (rendered people with --config.evals.NAME.options.regions=True, sda)"
        " or set --config.eval.localise=0"
      )
    return found

  def _finish(
    self, run: dict[str, Any], started: float, results: Mapping[str, Any] | None = None
  ) -> None:
    """Writes what was found; the processes of a run leave each other."""
    run["seconds"]["evaluate"] = time.time() - started
    run["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with processes.together():
      if self.active and results is not None:
        configs.write_json(self.folder / "results.json", results)
      self.files.write(run)
    processes.leave()

  def _trained(self, run: Mapping[str, Any]) -> ckpt.Checkpoints:
    """The checkpoints that training left; `run`: what run.json says."""
    if "num_classes" not in run:
      raise RunError(f"{self.folder} has no run.json: has this run been trained?")
    return ckpt.Checkpoints(storage.checkpoints(self.folder), read_only=True)

  def _evaluate_entry(
    self,
    name: str,
    dataset: Dataset,
    model: Any,
    params: Any,
    calibrated: calibrate.Fitted | None,
  ) -> dict[str, Any]:
    """{name: scores}, also of the re-ranked lists where asked for (entries.score)."""
    config = self.config
    with configs.errors():
      second = self.reranking()
    length = config.text.length
    if self.active:  # the others need not tokenise everything for it
      report = eval_batches.caption_report(dataset, self.tokenizer, length)
      self.say(f"  {name}: {report}")
    if second:
      size, flip = tuple(config.model.image_size), config.eval.get("flip", False)
      sides = dict(image_size=size, length=length, flip=flip)
      self.say(f"    {two_stage.memory(second, model, params, dataset, **sides)}")
    features = self._evaluate(model, params, dataset, second.stage if second else None)

    def again(found: evaluate.Evaluation, **options: Any) -> evaluate.Evaluation:
      return two_stage.score(
        second, found, features, dataset, model, params, name=name, **options
      )

    found = entries.score(
      name,
      features,
      dataset,
      entry=config.evals[name],
      how=config.eval,
      mesh=self.mesh,
      folder=self.folder if self.active else None,
      say=self.say,
      top=second.top if second else evaluate.TOP,
      again=again if second else None,
      towers=entries.towers(
        self._towers(model),
        params,
        dataset,
        tokenizer=self.tokenizer,
        pipe=transforms.build(config.data.eval_image),
        length=length,
        batch=config.eval.batch,
      ),
    )
    if calibrated is not None and not entries.is_control(config.evals[name]):
      judged = calibrate.judge(calibrated, features, dataset, config.eval.calibrate)
      found[name] |= judged
    seen = self._looks(dataset, model, params)
    localise.keep(self.folder if self.active else None, name, seen)
    if seen is not None:
      with configs.errors():
        how = evaluate.bootstrap(config.eval)
      found[name]["localise"] = localise.summary(seen, dataset, how)
    return found

  def _calibrated(self, model: Any, params: Any) -> calibrate.Fitted | None:
    """Probabilities of hits, fitted on validation and kept with the run; None where
    that is not asked for, or cannot be done."""
    most = self.config.eval.get("calibrate", 0)  # 0: for runs older than the field
    if not most:
      return None
    try:
      with processes.together():
        val = self._validation()
      if val is None:
        return None
      features = self._evaluate(model, params, val, None)
      found = calibrate.fit(features, val, most, seed=self.config.seed)
    except (DatasetError, calibrate.CalibrationError) as error:
      self.say(f"  no probabilities of hits: {error}.")
      return None
    with processes.together():
      if self.active:
        calibration_files.write(self.folder, found.calibration)
    return found

  def _looks(
    self, dataset: Dataset, model: Any, params: Any
  ) -> localise_files.Looks | None:
    """Where phrases look; None where nobody asks, or the data has no boxes."""
    config = self.config
    with configs.errors():
      asked = localise.settings(config.eval, model)
    if asked is None or not localise.has_regions(dataset):
      return None
    if self._looker is None:
      self._looker = localise.Looker(model, self.mesh, asked.by)
    length, pipe = config.text.length, transforms.build(config.data.eval_image)
    with processes.together():
      pairs = localise.choose(dataset, asked.count, self.tokenizer, length)
    batch = config.eval.batch
    return self._looker(params, dataset, pairs, pipe=pipe, batch=batch)

  def reranking(self) -> two_stage.Rerank | None:
    """The second stage of evaluation, where the config asks for one.

    Raises:
      ValueError: it cannot be had.
    """
    config = self.config
    return two_stage.settings(config.eval, config.losses, config.objective)

  def _legacy(self) -> dict[str, Any]:
    """Entry -> {"legacy": its best scores on test}; {} where it is not asked for."""
    if not self.config.eval.get("legacy", False):
      return {}
    best = run_log.best_legacy(self.folder, self.config.train.select)
    if absent := sorted(set(self.config.evals) - set(best)):
      self.say(
        f"  No legacy scores of {', '.join(absent)}: the run was trained without"
        " --config.eval.legacy=True, or without this test."
      )
    return {name: {"legacy": scores} for name, scores in best.items()}

  def report(self, datasets: Mapping[str, Dataset] | None = None) -> None:
    """Writes report.html and its pictures from the files of the run folder."""
    if datasets is None:
      datasets = {name: self.eval_data(name) for name in self.config.evals}
    started = time.time()
    again = {f"{name}{rankings.RERANKED}": data for name, data in datasets.items()}
    scored = word_files.steps(self.folder)  # words of captions that were trained on
    page = report.write(
      self.folder,
      {**datasets, **again},
      word_data=self.training_data()[0] if scored else None,
    )
    self.files.send()
    self.say(f"\nReport: {page} ({duration(time.time() - started)} to draw)")

  def say(self, text: str) -> None:
    if self.active:
      print(text, flush=True)
