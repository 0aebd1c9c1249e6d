"""One experiment: everything that a config names, built once and put together."""

import pathlib
import time
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax import evaluate, gradients, objectives, optim, run_folder, train
from tpr_jax.core import sharding, tree
from tpr_jax.data import build as data_build
from tpr_jax.data import pipeline, tokenizer, transforms
from tpr_jax.data.record import Dataset
from tpr_jax.initial import Initial
from tpr_jax.metrics import msd
from tpr_jax.models import build as model_build
from tpr_jax.report import report, tables
from tpr_jax.run_folder import RunError, RunFolder
from tpr_jax.run_log import RunLog, duration


class Experiment:
  """A config and its run folder.

  Args:
    config: a locked config (configs/cfam.py).
    folder: the run folder; made by `train` when missing.
  """

  def __init__(self, config: ConfigDict, folder: pathlib.Path):
    self.config, self.folder = config, folder
    self.active = jax.process_index() == 0
    self.files = RunFolder(folder, self.active)
    with configs.errors():
      self.mesh = sharding.make_mesh(config.mesh)
    self.initial = Initial(
      config.model.init_from,
      config.model.init_allow,
      self.files.read().get("weights", {}),
    )
    with configs.errors():
      self.fields = self._fields()
    words = config.text.tokenizer
    if words == "auto":
      words = self.initial.tokenizer() or "instant"
    self.tokenizer = tokenizer.build(words)
    self._encoder: evaluate.Encoder | None = None

  # --- data ---------------------------------------------------------------------

  def training_data(self) -> tuple[Dataset, Dataset | None]:
    """(train, val): val is the named split, or held-out identities, or None."""
    data = self.config.data
    options = data.options.to_dict()
    whole = data_build.dataset(data.name, data.root, data.train, options)
    if data.val:
      changed = {**options, **data.val_options.to_dict()}
      return whole, data_build.dataset(data.name, data.root, data.val, changed)
    if data.val_share:
      return data_build.hold_out(whole, data.val_share, data.val_seed)
    return whole, None

  def eval_data(self, name: str) -> Dataset:
    """The dataset of one entry of `config.evals`."""
    entry, data = self.config.evals[name], self.config.data
    options = entry.options.to_dict()
    if not entry.name or entry.name == data.name:
      options = {**data.options.to_dict(), **options}
    return data_build.dataset(
      entry.name or data.name, entry.root or data.root, entry.split, options
    )

  # --- model --------------------------------------------------------------------

  def _fields(self) -> dict[str, Any]:
    """Fields of the model (models/build.py), with those that its weights decide."""
    fields, objective = self.config.model.to_dict(), self.config.objective
    del fields["init_from"], fields["init_allow"]
    if fields["dtype"] == "auto":
      cpu = jax.default_backend() == "cpu"
      fields["dtype"] = "float32" if cpu else "bfloat16"
    return dict(
      fields | self.initial.settings(fields),
      text_length=self.config.text.length,
      learn_scale=objective.learn_temperature,
      initial_scale=1.0 / objective.temperature,
    )

  def model(self, num_classes: int, heads: Collection[str] | None = None) -> Any:
    """The Flax module with the heads that the active losses need (or those given)."""
    config = self.config
    if heads is None:
      heads = objectives.heads(config.losses, config.objective)
    return model_build.build(
      self.fields,
      vocab_size=self.tokenizer.vocab_size,
      num_classes=num_classes,
      heads=heads,
    )

  def _init_fn(self, model: Any) -> Any:
    image = jnp.zeros((2, *self.config.model.image_size, 3), jnp.uint8)
    text = jnp.full((2, self.config.text.length), self.tokenizer.end_id, jnp.int32)
    return lambda key: model.init(key, image, text)["params"]

  def _evaluate(self, model: Any, params: Any, dataset: Dataset) -> evaluate.Features:
    if self._encoder is None:
      self._encoder = evaluate.Encoder(model, self.mesh)
    data = self.config.data
    return self._encoder(
      params,
      dataset,
      tokenizer=self.tokenizer,
      pipe=transforms.build(data.eval_image),
      length=self.config.text.length,
      batch=self.config.eval.batch,
      threads=data.threads,
    )

  def _validator(self, model: Any, val: Dataset | None) -> Any:
    if val is None:
      return None

    def validate(params: Any) -> Mapping[str, float]:
      features = self._evaluate(model, params, val)
      return evaluate.score(features, val, mesh=self.mesh).scores["t2i"]

    return validate

  # --- training -----------------------------------------------------------------

  def train(self) -> None:
    """Trains (or resumes), then evaluates the selected checkpoint and reports."""
    config, started = self.config, time.time()
    self.files.check(config)
    with configs.errors():
      self._check_config()
      train_set, val_set = self.training_data()
      self._announce(train_set, val_set)
      parts = self._parts(train_set)
    parts.batches.start_prefetch()
    state, state_sh = train.init_state(
      parts.init_fn, parts.tx, self.mesh, config.shardings, config.seed
    )
    if config.model.init_from and not ckpt.any_saved(self.folder / "checkpoints"):
      params = self.initial.apply(
        state.params, state_sh.params, self.fields, self.tokenizer.vocab_size
      )
      state = state.replace(params=params)
      self.say("\n".join(self.initial.lines()))
    self.files.claim(config)
    saved = ckpt.Checkpoints(
      self.folder / "checkpoints",
      keep_last=config.train.keep_last,
      keep_best=config.train.keep_best,
    )
    run = self.files.record(
      seed=config.seed,
      parameters=tree.count(parts.shapes),
      num_classes=len(train_set.identities),
      started=started,
      weights=self.initial.record(),
    )
    if saved.latest() is not None:
      state, meta = saved.restore(
        saved.latest(), ckpt.abstract(state, state_sh), parts.batches
      )
      self.say(f"Resuming after step {meta['step']} of {parts.steps}.")
      changed = run_folder.changes(meta["versions"], run["versions"])
      if changed:
        self.say(f"Versions changed since the checkpoint: {', '.join(changed)}.")
    self.files.write(run)
    log = RunLog(
      self.folder,
      first_step=int(state.step),
      steps=parts.steps,
      examples=config.data.batch,
      active=self.active,
    )
    eval_every = max(round(config.train.eval_every * parts.per_epoch), 1)
    try:
      train.fit(
        state=state,
        train_step=train.make_train_step(
          parts.grad_fn, parts.tx, parts.schedule, self.mesh, state_sh
        ),
        batches=parts.batches,
        mesh=self.mesh,
        seed=config.seed,
        steps=parts.steps,
        log=log,
        log_every=config.train.log_every,
        checkpoints=saved,
        save_every=eval_every,
        meta={"config": configs.plain(config), "versions": run["versions"]},
        validate=self._validator(parts.model, val_set),
        eval_every=eval_every,
        select=config.train.select,
      )
    finally:
      log.close()
      saved.close()
      parts.batches.close()
      run["broken_images"] = dict(parts.batches.broken)
      run["seconds"]["train"] = run["seconds"].get("train", 0) + time.time() - started
      self.files.write(run)
    if parts.batches.broken:
      self.say(f"{len(parts.batches.broken)} pictures could not be read; see run.json.")
    self.evaluate()

  def _check_config(self) -> None:
    """What would otherwise come to light at the first batch, or after an epoch."""
    config, shards = self.config, sharding.batch_shards(self.mesh)
    for name, batch in (("data", config.data.batch), ("eval", config.eval.batch)):
      if batch < 1 or batch % shards:
        raise ValueError(
          f"{name}.batch={batch} cannot be split evenly over {shards} devices"
        )
    pieces = config.train.micro_batches
    if pieces < 1 or config.data.batch % (pieces * shards):
      raise ValueError(
        f"data.batch={config.data.batch} cannot be split evenly into"
        f" train.micro_batches={pieces} over {shards} devices"
      )
    for name in ("image", "eval_image"):
      size, wanted = transforms.build(config.data[name]).size, config.model.image_size
      if size != tuple(wanted):
        raise ValueError(
          f"data.{name}={config.data[name]!r} makes pictures of"
          f" {size or 'different sizes'}, but model.image_size={tuple(wanted)}"
          " (height, width): change one of them"
        )
    for name, value, known in (
      ("train.select", config.train.select, evaluate.SCORES),
      ("eval.msd_variant", config.eval.msd_variant, msd.VARIANTS),
    ):
      if value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")

  def _parts(self, train_set: Dataset) -> SimpleNamespace:
    """Everything that training runs on, from the config."""
    config, data = self.config, self.config.data
    batches = pipeline.train_iterator(
      train_set,
      self.tokenizer,
      pipe=transforms.build(data.image),
      length=config.text.length,
      batch=data.batch,
      seed=config.seed,
      sampler=data.sampler,
      instances=data.instances,
      buckets=tuple(config.text.buckets),
      short_first=config.text.short_first,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      threads=data.threads,
      workers=data.workers,
      cache_mb=data.cache_mb,
    )
    per_epoch = max(batches.examples // data.batch, 1)
    steps = config.train.steps or round(config.train.epochs * per_epoch)
    classes = len(train_set.identities)
    model = self.model(classes)
    objective = objectives.make_objective(
      model, config.losses, config.objective, masking=self._masking()
    )
    grad_fn = gradients.make_grad_fn(
      objective, micro_batches=config.train.micro_batches
    )
    init_fn, key = self._init_fn(model), jax.random.key(0)
    shapes = jax.eval_shape(init_fn, key)
    complete = self.model(classes, heads=model_build.HEADS)
    tx, schedule = optim.make_optimizer(
      config.optim,
      shapes,
      steps=steps,
      steps_per_epoch=per_epoch,
      complete=lambda: jax.eval_shape(self._init_fn(complete), key),
    )
    sharding.state_shardings(shapes, self.mesh, config.shardings)  # are the rules good?
    self.say(
      f"  {batches.captions}\n{tree.count(shapes):,} parameters, {steps:,} steps of"
      f" {data.batch} ({per_epoch:,} steps an epoch) on {jax.device_count()}"
      f" {jax.devices()[0].platform} device(s)."
    )
    return SimpleNamespace(
      batches=batches,
      model=model,
      init_fn=init_fn,
      shapes=shapes,
      tx=tx,
      schedule=schedule,
      grad_fn=grad_fn,
      steps=steps,
      per_epoch=per_epoch,
    )

  def _masking(self) -> dict[str, Any]:
    """Arguments of losses/mlm.mask_tokens: the rates, and the tokenizer's ids."""
    words, text = self.tokenizer, self.config.text
    return dict(
      mask_id=words.mask_id,
      vocab_size=words.vocab_size,
      special_ids=(words.start_id, words.end_id),
      share=text.mask_share,
      mask=text.mask_as_mask,
      random=text.mask_as_random,
    )

  def _announce(self, train_set: Dataset, val_set: Dataset | None) -> None:
    for dataset in filter(None, (train_set, val_set)):
      captions = sum(len(record.captions) for record in dataset.records)
      self.say(
        f"{dataset.name}/{dataset.split}: {len(dataset.records):,} images,"
        f" {captions:,} captions, {len(dataset.identities):,} identities"
      )

  # --- evaluation ---------------------------------------------------------------

  def evaluate(self) -> None:
    """Scores every entry of `config.evals` with the selected checkpoint; reports."""
    started = time.time()
    run = self.files.read()
    if "num_classes" not in run:
      raise RunError(f"{self.folder} has no run.json: has this run been trained?")
    saved = ckpt.Checkpoints(self.folder / "checkpoints", read_only=True)
    best, latest = saved.best(), saved.latest()
    if latest is None:
      raise RunError(f"{self.folder}: no checkpoint to evaluate")
    step = latest if best is None else best
    select = self.config.train.select
    selection = (
      f"best validation {select} ({saved.scores()[best]:.2f})"
      if best is not None
      else "last step (no validation split)"
    )
    with configs.errors():
      model = self.model(run["num_classes"])
    shapes = jax.eval_shape(self._init_fn(model), jax.random.key(0))
    params_sh = sharding.state_shardings(shapes, self.mesh, self.config.shardings)
    params = saved.restore_params(step, ckpt.abstract(shapes, params_sh))
    saved.close()
    self.say(f"Evaluating step {step}: {selection}.")
    results = {"selected_step": step, "selection": selection, "evals": {}}
    datasets = {}
    (self.folder / "rankings").mkdir(exist_ok=True)
    for name, entry in self.config.evals.items():
      dataset = datasets[name] = self.eval_data(name)
      self.say(
        f"  {name}: "
        + pipeline.caption_report(dataset, self.tokenizer, self.config.text.length)
      )
      features = self._evaluate(model, params, dataset)
      found = evaluate.score(
        features,
        dataset,
        i2t=entry.i2t,
        group_by=entry.group_by,
        msd_variant=self.config.eval.msd_variant,
        mesh=self.mesh,
      )
      results["evals"][name] = {**found.scores, "note": entry.note}
      if self.active:
        np.savez_compressed(self.folder / "rankings" / f"{name}.npz", **found.rankings)
    run["seconds"]["evaluate"] = time.time() - started
    run["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if not self.active:
      return
    configs.write_json(self.folder / "results.json", results)
    self.files.write(run)
    self.say("\n" + tables.results_table(results))
    self.report(datasets)

  def report(self, datasets: Mapping[str, Dataset] | None = None) -> None:
    """Writes report.html and its pictures from the files of the run folder."""
    if datasets is None:
      datasets = {name: self.eval_data(name) for name in self.config.evals}
    started = time.time()
    page = report.write(self.folder, datasets)
    self.say(f"\nReport: {page} ({duration(time.time() - started)} to draw)")

  def say(self, text: str) -> None:
    if self.active:
      print(text, flush=True)
