"""The only training loop: one jitted step with donated state, over any mesh."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from tpr_jax import cross_objective, score_table
from tpr_jax.bad_data import Watch
from tpr_jax.checkpoints import Checkpoints
from tpr_jax.core import compiling, processes, sharding, tree
from tpr_jax.core.types import Batch, GradFn, Params, TrainState
from tpr_jax.data.damage import BadData
from tpr_jax.run_log import RunLog

_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # that ask to save and leave


class NonFiniteLoss(Exception):
  """Loss or gradient is NaN or infinite: says the step, terms and last checkpoint."""


class Interrupted(Exception):
  """SIGINT or SIGTERM was handled: the state is saved. `signum` says which."""

  def __init__(self, signum: int, step: int):
    super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
    self.signum, self.step = signum, step


class StatePlan(NamedTuple):
  """How the state is made: `create(key)`, jitted; its shapes; its shardings."""

  create: Callable[[jax.Array], TrainState]
  shapes: TrainState
  shardings: TrainState


def state_plan(
  init_fn: Callable[[jax.Array], Params],
  tx: optax.GradientTransformation,
  mesh: Mesh,
  rules: Any,
  table: score_table.ScoreTable | None = None,
  trained: Callable[[Params], Params] = lambda params: params,
) -> StatePlan:
  """The state of parameters and optimizer, each leaf where the rules put it.

  Args:
    trained: parameters -> those that train: the optimizer has a state of these alone.
    table: of scores, where the objective reads those of a caption's last visit.
  """

  def create(key):
    params = init_fn(key)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(trained(params)),
      scores=None if table is None else table.create(),
    )

  shapes = jax.eval_shape(create, jax.random.key(0))
  state_sh = sharding.state_shardings(shapes, mesh, rules)
  if table is not None:
    state_sh = state_sh.replace(scores=sharding.batch_sharding(mesh))
  return StatePlan(jax.jit(create, out_shardings=state_sh), shapes, state_sh)


def make_train_step(
  grad_fn: GradFn,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: Mesh,
  state_sh: TrainState,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
  """step(state, batch, key) -> (state, metrics); the state given is donated.

  `grad_fn` may give the gradients of some parameters alone; the others stay.

  The key of step s is `fold_in(key, s)`: randomness is a function of seed and step.
  """

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    batch = dict(batch)
    replaced, captions = batch.pop("replaced"), batch["example"]
    if state.scores is not None:
      length = batch["text"].shape[1]
      batch["scores"] = score_table.read(state.scores, captions, length)
    (loss, metrics), grads = grad_fn(state.params, batch, key)
    scores, fresh = state.scores, metrics.pop("scores", None)
    if fresh is not None:
      scores = score_table.write(scores, captions, fresh)
    running = metrics.pop(cross_objective.RUNNING, {})
    trained = tree.like(state.params, grads)
    updates, opt_state = tx.update(grads, state.opt_state, trained)
    moved = tree.flat(optax.apply_updates(trained, updates))
    metrics = {
      **metrics,
      "loss": loss,
      "lr": schedule(state.step),
      "grad_norm": optax.tree.norm(grads),
      "replaced": jnp.sum(replaced >= 0),
    }
    return state.replace(
      step=state.step + 1,
      params=tree.replace(state.params, moved | running),
      opt_state=opt_state,
      scores=scores,
    ), metrics

  whole = sharding.replicated(mesh)
  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(state_sh, sharding.batch_sharding(mesh), whole),
    out_shardings=(state_sh, whole),
    compiler_options=compiling.options(mesh),
  )


class _StopSignals:
  """Turns the first SIGINT or SIGTERM into a request; a second one acts at once."""

  def __enter__(self):
    self.requested: int | None = None
    self._previous = {}

    def handle(signum, _frame):
      self.requested = signum
      for number, previous in self._previous.items():
        signal.signal(number, previous)

    for number in _SIGNALS:
      self._previous[number] = signal.signal(number, handle)
    return self

  def __exit__(self, *_):
    for number, previous in self._previous.items():
      signal.signal(number, previous)


class _Window:
  """The numbers of the steps since the last line of the log, and totals beyond it.

  What is not yet in the log travels in the checkpoint (`state`), so that the lines of a
  resumed run are those of one that was never stopped.

  Args:
    carried: an earlier window's `state`.
    last_good: () -> which checkpoint there is, for the error.
  """

  def __init__(
    self, log: RunLog, carried: Mapping[str, Any], last_good: Callable[[], str]
  ):
    self._log, self._last_good = log, last_good
    self._steps = [(int(at), dict(numbers)) for at, numbers in carried.get("steps", ())]
    self._replaced = int(carried.get("replaced", 0))
    self._on_device: list[tuple[int, Any]] = []

  def add(self, step: int, metrics: Any) -> None:
    self._on_device.append((step, metrics))

  def _fetch(self) -> None:
    fetched = jax.device_get([metrics for _, metrics in self._on_device])
    for (at, _), metrics in zip(self._on_device, fetched, strict=True):
      numbers = {name: float(value) for name, value in metrics.items()}
      # A bad gradient under a good loss has already spoilt the parameters.
      if not np.isfinite([numbers["loss"], numbers["grad_norm"]]).all():
        terms = ", ".join(f"{k} {v:.4g}" for k, v in sorted(numbers.items()))
        raise NonFiniteLoss(
          f"loss or gradient is not finite at step {at}: {terms}. Last good"
          f" checkpoint: {self._last_good()}. Try a lower optim.lr, optim.clip=1.0, or"
          " dtype=float32."
        )
      self._replaced += int(numbers.pop("replaced"))
      self._steps.append((at, numbers))
    self._on_device = []

  def state(self) -> dict[str, Any]:
    """Plain JSON. Raises NonFiniteLoss."""
    self._fetch()
    return {"steps": self._steps, "replaced": self._replaced}

  def flush(self) -> None:
    """Writes a line with the means since the last one. Raises NonFiniteLoss."""
    self._fetch()
    if not self._steps:
      return
    last, newest = self._steps[-1]
    mean = {k: float(np.mean([m[k] for _, m in self._steps])) for k in newest}
    mean["lr"] = newest["lr"]
    self._log.train(last, {**mean, "replaced_images": self._replaced})
    self._steps = []


class _Agreement:
  """What all processes act on at the same step: a signal to any of them, bad data."""

  def __init__(self, signals: _StopSignals, bad: Watch | None, mesh: Mesh):
    self._signals, self._bad = signals, bad
    self._votes = processes.Votes(mesh, len(_SIGNALS) + 1)

  def __call__(self, after: str) -> int | None:
    """The number of a signal that asks to leave, or None.

    Raises:
      BadData: more of the data is bad than may be; `after` ends its text.
    """
    bad = 0 if self._bad is None else self._bad.count()
    asked = [self._signals.requested == number for number in _SIGNALS]
    *asked, bad = self._votes([*asked, bad])
    if self._bad is not None and bad > self._bad.allowed:
      self._bad.check(after)
    return _first(asked)

  def at_last(self) -> int | None:
    """The same after the last step, for a signal that was not agreed upon yet."""
    *asked, _ = self._votes.rest()
    return _first(asked)


def _first(asked: Sequence[int]) -> int | None:
  """The signal that some process got; SIGTERM before SIGINT."""
  return next((n for n, count in zip(_SIGNALS, asked, strict=True) if count), None)


def _next_batch(batches: Iterator[Any], after: str) -> Mapping[str, np.ndarray]:
  """The next batch; BadData ends with what comes after it."""
  try:
    return next(batches)
  except BadData as error:
    raise BadData(f"{error}\n{after}") from error


def fit(
  *,
  state: TrainState,
  train_step: Callable[..., Any],
  batches: Iterator[Mapping[str, np.ndarray]],
  mesh: Mesh,
  seed: int,
  steps: int,
  log: RunLog,
  log_every: int,
  checkpoints: Checkpoints,
  save_every: int,
  meta: Mapping[str, Any],
  carried: Mapping[str, Any] | None = None,
  validate: Callable[[Params], Mapping[str, float]] | None = None,
  eval_every: int = 0,
  select: str = "R1",
  observe: Callable[[int, Params], None] | None = None,
  bad: Watch | None = None,
) -> TrainState:
  """Runs from `state.step` to `steps`, logging, validating and saving on the way.

  Args:
    batches: numpy batches of this process (see core/types.py), at the position that
      belongs to the state; `get_state()` gives it as plain JSON.
    meta: plain JSON that every checkpoint gets, beside "step", "data" (the position)
      and "log".
    carried: "log" of the checkpoint that is resumed from.
    validate: parameters -> scores of the validation split; None: no selection.
    eval_every: steps between validations; each is saved with its score `select`.
    observe: (step, parameters) -> None, called as often as `validate` and before it.
    save_every: steps between other checkpoints (0: only at validations and the end).
    bad: watches how much of the data is bad; every checkpoint gets its finds, "damage".

  Returns:
    The last state, which is also the newest checkpoint.

  Raises:
    NonFiniteLoss: at the first step whose loss or gradient is not finite; it is not
      saved.
    BadData: a batch of which no picture can be read, or more is bad than may be.
    Interrupted: after SIGINT or SIGTERM, once the state has been saved; after the
      last step too, since what would follow takes time.
    CheckpointError: one cannot be written.
  """
  key, batch_sh = jax.random.key(seed), sharding.batch_sharding(mesh)
  step, saved = int(state.step), checkpoints.latest()

  def last_good():
    there = f"step {saved}" if saved is not None else "none"
    return f"{there} in {checkpoints.folder}"

  def mended():
    return (
      f"Last checkpoint: {last_good()}. The same command goes on from there once the"
      " data was mended."
    )

  window = _Window(log, carried or {}, last_good)

  def save(score=None):
    nonlocal saved
    log.sync()
    position = dict(step=step, data=batches.get_state(), log=window.state())
    if bad is not None:
      position["damage"] = bad.merged().to_json()
    checkpoints.save(step, state, {**meta, **position}, score)
    saved = step

  with _StopSignals() as signals:
    agreed = _Agreement(signals, bad, mesh)
    while step < steps:
      with log.meter.waiting():
        batch = sharding.to_global(_next_batch(batches, mended()), batch_sh)
      state, metrics = train_step(state, batch, key)
      step += 1
      window.add(step, metrics)
      last = step == steps
      if step % log_every == 0 or last:
        window.flush()
      due = last or (eval_every and step % eval_every == 0)
      if observe is not None and due:
        window.flush()
        observe(step, state.params)
        log.meter.restart()
      if validate is not None and due:
        window.flush()
        scores = validate(state.params)
        log.validation(step, scores)
        save(scores[select])
        log.meter.restart()
      elif last or (save_every and step % save_every == 0):
        window.flush()
        save()
      if (signum := agreed(mended())) is not None:
        save()
        checkpoints.wait()
        raise Interrupted(signum, step)
    signum = agreed.at_last()
    checkpoints.wait()
    if signum is not None:
      raise Interrupted(signum, step)
  return state
