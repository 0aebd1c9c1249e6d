"""Training of an experiment: from its config to a run folder with checkpoints."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from tpr_jax import (
  adapter_files,
  bad_data,
  evaluate,
  freezing,
  localise,
  program,
  run_folder,
  train,
  two_stage,
  word_files,
  word_scores,
)
from tpr_jax import checkpoints as ckpt
from tpr_jax import config as configs
from tpr_jax.ahead import CompiledAhead
from tpr_jax.core import peaks, processes, sharding, storage, tree
from tpr_jax.core.types import Params, TrainState
from tpr_jax.data import pipeline, transforms, views
from tpr_jax.data.damage import MAX_BROKEN, check_limit
from tpr_jax.data.record import Dataset
from tpr_jax.experiment import Experiment
from tpr_jax.meter import Meter
from tpr_jax.metrics import msd
from tpr_jax.models import adapters
from tpr_jax.run_log import RunLog


def run(experiment: Experiment) -> None:
  """Trains (or resumes), then evaluates the selected checkpoint and reports."""
  with processes.together():
    experiment.files.check(experiment.config)
  with configs.errors():
    training = Training(experiment)
  training.run()
  experiment.evaluate()


class Training:
  """Everything that the training of an experiment runs on.

  Raises:
    ValueError: fields of the config that do not fit each other, or the devices.
  """

  def __init__(self, experiment: Experiment):
    self.experiment, self.config = experiment, experiment.config
    self.started = time.time()
    _check(self.config, sharding.batch_shards(experiment.mesh))
    with processes.together():
      train_set, self.val_set = experiment.training_data()
    for dataset in filter(None, (train_set, self.val_set)):
      experiment.say(
        f"{dataset.name}/{dataset.split}: {len(dataset.records):,} images,"
        f" {dataset.caption_count:,} captions, {len(dataset.identities):,} identities"
      )
    self.classes = len(train_set.identities)
    self.batches = self._batches(train_set)
    limit = self.config.data.get("max_broken", MAX_BROKEN)
    self._bad = bad_data.Watch(lambda: self.batches.damage, limit)
    self._bad.check()  # captions: before anything is compiled
    self.per_epoch = max(self.batches.examples // self.config.data.batch, 1)
    self.steps = self.config.train.steps or round(
      self.config.train.epochs * self.per_epoch
    )
    built = self._program()
    localise.settings(self.config.eval, built.model)
    self.model, self.plan, self.train_step = built.model, built.plan, built.step
    self.frozen = built.frozen
    experiment.say(
      f"  {self.batches.captions}\n{tree.count(self.plan.shapes.params):,} parameters,"
      f" {self.steps:,} steps of {self.config.data.batch} ({self.per_epoch:,} steps an"
      f" epoch) on {jax.device_count()} {jax.devices()[0].platform} device(s)."
    )
    if self.frozen:
      experiment.say(freezing.describe(self.frozen, self.plan.shapes))
    experiment.say(sharding.describe(self.plan.shapes, self.plan.shardings))
    self.word_scorer = self._scorer(train_set)
    half = experiment.fields["dtype"] == "bfloat16"
    kind = jax.devices()[0].device_kind
    self._meter = Meter(
      self.config.data.batch,
      devices=jax.device_count(),
      peak=peaks.bfloat16(kind) if half else None,
    )

  def _batches(self, train_set: Dataset) -> pipeline.TrainIterator:
    data, text = self.config.data, self.config.text
    index, count = sharding.batch_share(self.experiment.mesh)
    return pipeline.train_iterator(
      train_set,
      self.experiment.tokenizer,
      pipe=transforms.build(data.image),
      length=text.length,
      batch=data.batch,
      seed=self.config.seed,
      sampler=data.sampler,
      instances=data.instances,
      buckets=tuple(text.buckets),
      short_first=text.short_first,
      process_index=index,
      process_count=count,
      threads=data.threads,
      workers=data.workers,
      cache_mb=data.cache_mb,
      views=views.build(data.get("views")),
    )

  def _program(self) -> program.Program:
    experiment = self.experiment
    return program.build(
      self.config,
      experiment.fields,
      tokenizer=experiment.tokenizer,
      num_classes=self.classes,
      mesh=experiment.mesh,
      steps=self.steps,
      steps_per_epoch=self.per_epoch,
      captions=self.batches.examples,
    )

  def run(self) -> None:
    """Trains from the newest checkpoint, or the first step, to the last."""
    with (
      contextlib.closing(self.batches),
      self.experiment.files.alone(),
      contextlib.closing(self._checkpoints()) as saved,
    ):
      meta = self._position(saved)
      done = saved.latest() == self.steps  # nothing is left to train
      with contextlib.closing(self.compile_ahead(nothing=done)) as train_step:
        state = self.first_state() if not meta else self._restored(saved)
        train_step.traced()
        self.batches.start_prefetch()
        self._fit(state, train_step, saved, meta)
    if damage := self.batches.damage:
      self.experiment.say(f"{len(damage):,} bad pictures; see {bad_data.FILE}.")
      self.experiment.say("\n".join(damage.lines()))

  def _checkpoints(self) -> ckpt.Checkpoints:
    """The run's checkpoints; what is not whole among them is put aside."""
    saved = ckpt.Checkpoints(
      storage.checkpoints(self.experiment.folder),
      keep_last=self.config.train.keep_last,
      keep_best=self.config.train.keep_best,
    )
    for step, why, place in saved.set_aside:
      self.experiment.say(f"Checkpoint {step} is not used: {why}. It is now {place}")
    return saved

  def _position(self, saved: ckpt.Checkpoints) -> dict[str, Any]:
    """What the newest checkpoint says, with the data where it left off; or {}."""
    if saved.latest() is None:
      return {}
    meta = saved.meta(saved.latest())
    if "data" not in meta:
      raise ckpt.CheckpointError(
        f"checkpoint {saved.latest()} of {saved.folder} was written by an earlier"
        " version, which kept the position in the data elsewhere: it can be evaluated,"
        " not resumed. Give another folder with --run=DIR"
      )
    with configs.errors():
      self.batches.set_state(meta["data"])
      self.batches.restore_damage(meta.get("damage"))
    self.experiment.say(f"Resuming after step {meta['step']} of {self.steps}.")
    return meta

  def compile_ahead(self, nothing: bool = False) -> CompiledAhead:
    """The step, with a program on its way for each length of the texts, or none."""
    batches = program.batch_shapes(self.config, self.experiment.mesh)
    if nothing:
      batches = []
    return CompiledAhead(
      self.train_step,
      self.plan.shapes,
      batches,
      jax.random.key(self.config.seed),
      self._meter,
    )

  def _restored(self, saved: ckpt.Checkpoints) -> TrainState:
    wanted = ckpt.abstract(self.plan.shapes, self.plan.shardings)
    return saved.restore(saved.latest(), wanted)[0]

  def first_state(self) -> TrainState:
    """Random parameters, or those of `init_from` with random heads; adapters start
    on what was loaded."""
    experiment, plan = self.experiment, self.plan
    state = plan.create(jax.random.key(self.config.seed))
    initial, params = experiment.initial, state.params
    if initial.place:
      params = initial.apply(
        params,
        plan.shardings.params,
        experiment.fields,
        experiment.tokenizer.vocab_size,
      )
      experiment.say("\n".join(initial.lines()))
    if not self.config.model.get("init_random", False):
      with configs.errors():
        freezing.check_loaded(self.frozen, initial.loaded, initial.place)
    rules, loaded = self.model.adapters, initial.loaded
    params = adapters.restarted(rules, params, loaded)
    if place := self.config.model.get("init_adapters", ""):
      params, found = adapter_files.apply(
        place, params, plan.shardings.params, rules, self.frozen
      )
      experiment.say(f"Adapters from {place}: {len(found)} leaves")
    return state.replace(params=params)

  def _fit(
    self,
    state: TrainState,
    train_step: CompiledAhead,
    saved: ckpt.Checkpoints,
    meta: Mapping[str, Any],
  ) -> None:
    """Claims the folder and trains to the end; `meta`: of the checkpoint resumed."""
    experiment, files = self.experiment, self.experiment.files
    for line in files.claim(self.config):
      experiment.say(f"Changed since the run began: {line}")
    run = files.record(
      seed=self.config.seed,
      parameters=tree.count(self.plan.shapes.params),
      num_classes=self.classes,
      started=self.started,
      weights=experiment.initial.record(),
    )
    here = run_folder.surroundings(experiment.mesh)
    doubts = self._doubts(meta, here)
    run |= dict(surroundings=here, repeatable=not doubts, unrepeatable=doubts)
    run["trained"] = freezing.count(self.frozen, self.plan.shapes.params)
    files.write(run)
    damage = None
    try:
      self._loop(state, train_step, saved, meta, dict(surroundings=here, doubts=doubts))
      damage = self._bad.merged()
    finally:
      if experiment.active:  # after an error, what this process knows
        bad_data.write(experiment.folder, damage or self.batches.damage)
      seconds = time.time() - self.started
      run["seconds"]["train"] = run["seconds"].get("train", 0) + seconds
      files.write(run)

  def _doubts(self, meta: Mapping[str, Any], here: Mapping[str, str]) -> list[str]:
    """Why the bytes of an uninterrupted run cannot be promised; says what is new."""
    doubts = list(meta.get("doubts", ()))
    found = run_folder.changes(meta["surroundings"], here) if meta else []
    found += filter(None, [run_folder.unrepeatable()])
    if new := [doubt for doubt in found if doubt not in doubts]:
      self.experiment.say(
        "Not promised: the same bytes as another run of this config, or one that was"
        f" never stopped. {'; '.join(new)}."
      )
    return doubts + new

  def _loop(
    self,
    state: TrainState,
    train_step: CompiledAhead,
    saved: ckpt.Checkpoints,
    resumed: Mapping[str, Any],
    record: Mapping[str, Any],
  ) -> None:
    """train.fit; `resumed`: meta of the checkpoint, `record`: what new ones get."""
    experiment, config = self.experiment, self.config
    log = RunLog(
      experiment.folder,
      first_step=int(state.step),
      steps=self.steps,
      meter=self._meter,
      active=experiment.active,
    )
    eval_every = max(round(config.train.eval_every * self.per_epoch), 1)
    try:
      train.fit(
        state=state,
        train_step=train_step,
        batches=self.batches,
        mesh=experiment.mesh,
        seed=config.seed,
        steps=self.steps,
        log=log,
        log_every=config.train.log_every,
        checkpoints=saved,
        save_every=eval_every,
        meta={"config": configs.plain(config), **record},
        carried=resumed.get("log"),
        validate=self._validate if self.val_set is not None else None,
        eval_every=eval_every,
        select=config.train.select,
        observe=self._observers(log),
        bad=self._bad,
      )
    finally:
      log.close()

  def _validate(self, params: Params) -> Any:
    return self.experiment.validate(self.model, params, self.val_set)

  def _observers(self, log: RunLog) -> Callable[[int, Params], None] | None:
    """What is looked at whenever there is a validation, apart from it."""
    made = []
    if self.config.eval.get("legacy", False):
      made.append(self._legacy(log))
    if self.word_scorer is not None:
      made.append(self._words(log))

    def observe(step: int, params: Params) -> None:
      for each in made:
        each(step, params)

    return observe if made else None

  def _scorer(self, train_set: Dataset) -> word_scores.Scorer | None:
    """Scores words of some captions that are trained on, where that is asked for."""
    config, asked = self.config, self.config.eval.get("word_scores")
    if not asked or not asked.captions:
      return None
    with processes.together():
      captions = word_scores.choose(
        train_set,
        asked.captions,
        tokenizer=self.experiment.tokenizer,
        pipe=transforms.build(config.data.eval_image),
        length=config.text.length,
        seed=config.seed,
      )
    return word_scores.Scorer(
      self.model,
      self.experiment.mesh,
      dual=config.objective.dual.to_dict(),
      rules=program.masking(self.experiment.tokenizer, config.text),
      kinds=tuple(asked.kinds),
      captions=captions,
      dataset=train_set,
      tokenizer=self.experiment.tokenizer,
      batch=config.eval.batch,
      how=evaluate.bootstrap(config.eval),
    )

  def _words(self, log: RunLog) -> Callable[[int, Params], None]:
    """Logs how well scores of words find the wrong ones, and keeps some to look at."""

    def observe(step: int, params: Params) -> None:
      found = self.word_scorer(step, params)
      if self.experiment.active:
        word_files.write(self.experiment.folder, found)
      log.words(step, word_files.numbers(found))

    return observe

  def _legacy(self, log: RunLog) -> Callable[[int, Params], None]:
    """Scores the tests as training goes on, as most published tables do."""
    experiment = self.experiment
    tests = {name: experiment.eval_data(name) for name in self.config.evals}

    def observe(step: int, params: Params) -> None:
      for name, dataset in tests.items():
        log.legacy(step, name, experiment.validate(self.model, params, dataset))

    return observe


def _check(config: Any, shards: int) -> None:
  """What would otherwise come to light at the first batch, or after an epoch."""
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
  check_limit(config.data.get("max_broken", MAX_BROKEN))
  if (asked := config.eval.get("word_scores")) is not None:
    word_scores.check(asked.kinds, asked.captions)
  evaluate.bootstrap(config.eval)
  two_stage.settings(config.eval, config.losses, config.objective)
  for name, value, known in (
    ("train.select", config.train.select, evaluate.SCORES),
    ("eval.msd_variant", config.eval.msd_variant, msd.VARIANTS),
  ):
    if value not in known:
      raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")
