"""The only training loop: one jitted step with donated state, over any mesh."""

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from tpr_jax.checkpoints import Checkpoints
from tpr_jax.core import sharding
from tpr_jax.core.types import Batch, GradFn, Params, TrainState
from tpr_jax.run_log import RunLog


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
) -> StatePlan:
  """The state of parameters and optimizer, each leaf where the rules put it."""

  def create(key):
    params = init_fn(key)
    return TrainState(
      step=jnp.zeros((), jnp.int32), params=params, opt_state=tx.init(params)
    )

  shapes = jax.eval_shape(create, jax.random.key(0))
  state_sh = sharding.state_shardings(shapes, mesh, rules)
  return StatePlan(jax.jit(create, out_shardings=state_sh), shapes, state_sh)


def make_train_step(
  grad_fn: GradFn,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: Mesh,
  state_sh: TrainState,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
  """step(state, batch, key) -> (state, metrics); the state given is donated.

  The key of step s is `fold_in(key, s)`: randomness is a function of seed and step.
  """

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    (loss, metrics), grads = grad_fn(state.params, batch, key)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics = {
      **metrics,
      "loss": loss,
      "lr": schedule(state.step),
      "grad_norm": optax.tree.norm(grads),
    }
    return state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
    ), metrics

  whole = sharding.replicated(mesh)
  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(state_sh, sharding.batch_sharding(mesh), whole),
    out_shardings=(state_sh, whole),
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

    for number in (signal.SIGINT, signal.SIGTERM):
      self._previous[number] = signal.signal(number, handle)
    return self

  def __exit__(self, *_):
    for number, previous in self._previous.items():
      signal.signal(number, previous)


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
  validate: Callable[[Params], Mapping[str, float]] | None = None,
  eval_every: int = 0,
  select: str = "R1",
  observe: Callable[[int, Params], None] | None = None,
) -> TrainState:
  """Runs from `state.step` to `steps`, logging, validating and saving on the way.

  Args:
    batches: numpy batches of this process (see core/types.py), at the position that
      belongs to the state.
    validate: parameters -> scores of the validation split; None: no selection.
    eval_every: steps between validations; each is saved with its score `select`.
    observe: (step, parameters) -> None, called as often as `validate` and before it.
    save_every: steps between other checkpoints (0: only at validations and the end).

  Returns:
    The last state, which is also the newest checkpoint.

  Raises:
    NonFiniteLoss: at the first step whose loss or gradient is not finite; it is not
      saved.
    Interrupted: after SIGINT or SIGTERM, once the state has been saved; after the
      last step too, since what would follow takes time.
  """
  key, batch_sh = jax.random.key(seed), sharding.batch_sharding(mesh)
  step, pending, replaced, saved = int(state.step), [], 0, checkpoints.latest()

  def flush():
    nonlocal pending
    if not pending:
      return
    fetched = jax.device_get([metrics for _, metrics in pending])
    for (at, _), metrics in zip(pending, fetched, strict=True):
      # A bad gradient under a good loss has already spoilt the parameters.
      if not np.isfinite([metrics["loss"], metrics["grad_norm"]]).all():
        terms = ", ".join(f"{k} {float(v):.4g}" for k, v in sorted(metrics.items()))
        raise NonFiniteLoss(
          f"loss or gradient is not finite at step {at}: {terms}. Last good checkpoint:"
          + (f" step {saved}" if saved is not None else " none")
          + f" in {checkpoints.folder}. Try a lower optim.lr, optim.clip=1.0, or"
          " dtype=float32."
        )
    mean = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
    mean["lr"] = float(fetched[-1]["lr"])
    log.train(pending[-1][0], {**mean, "replaced_images": replaced})
    pending = []

  def save(score=None):
    nonlocal saved
    checkpoints.save(step, state, batches, {**meta, "step": step}, score)
    saved = step

  with _StopSignals() as stop:
    while step < steps:
      batch = dict(next(batches))
      replaced += int((batch.pop("replaced") >= 0).sum())
      state, metrics = train_step(state, sharding.to_global(batch, batch_sh), key)
      step += 1
      pending.append((step, metrics))
      last = step == steps
      if step % log_every == 0 or last:
        flush()
      due = last or (eval_every and step % eval_every == 0)
      if observe is not None and due:
        flush()
        observe(step, state.params)
        log.restart_clock()
      if validate is not None and due:
        flush()
        scores = validate(state.params)
        log.validation(step, scores)
        save(scores[select])
        log.restart_clock()
      elif last or (save_every and step % save_every == 0):
        flush()
        save()
      if stop.requested is not None:
        flush()
        save()
        checkpoints.wait()
        raise Interrupted(stop.requested, step)
    checkpoints.wait()
  return state
