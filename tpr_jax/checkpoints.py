"""Checkpoints of a run: state, data position, config and versions, through Orbax.

A checkpoint at step s holds everything that the continued run needs: `state` (step,
parameters, optimizer), `data` (the input iterator's position), `meta` (config,
versions, step, validation scores). Written in the background and made visible by one
rename, so a checkpoint is whole or absent. Kept: the newest few, and the best few by
validation score.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
  AnyPreservationPolicy,
  BestN,
  LatestN,
)

from tpr_jax.core import tree

_NAMED = 4  # differences that an error lists; a wrong width alone has hundreds


class CheckpointError(Exception):
  """A checkpoint cannot be found or does not fit the model it is restored into."""


def last_saved(folder: str | pathlib.Path) -> int | None:
  """The newest step in the folder; None without one, or without the folder."""
  if not pathlib.Path(folder).is_dir():
    return None
  saved = Checkpoints(folder, read_only=True)
  try:
    return saved.latest()
  finally:
    saved.close()


class Checkpoints:
  """The checkpoints in one folder.

  Args:
    folder: made if missing.
    keep_last: how many of the newest are kept.
    keep_best: how many of the best by `score` are kept beside them.
    read_only: never creates or deletes anything.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    *,
    keep_last: int = 2,
    keep_best: int = 1,
    read_only: bool = False,
  ):
    self.folder = pathlib.Path(folder).absolute()
    if read_only and not self.folder.is_dir():
      raise CheckpointError(f"no checkpoints at {self.folder}: is this a run's folder?")
    best = BestN(
      get_metric_fn=lambda metrics: metrics["score"],
      n=keep_best,
      keep_checkpoints_without_metrics=False,
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
      best_fn=lambda metrics: metrics["score"],
      best_mode="max",
      create=not read_only,
      read_only=read_only,
      cleanup_tmp_directories=not read_only,
    )
    self._manager = ocp.CheckpointManager(self.folder, options=options)

  def latest(self) -> int | None:
    """The newest step saved, or None."""
    return self._manager.latest_step()

  def best(self) -> int | None:
    """The step with the highest score (the latest of equals); None if none has one."""
    scored = [(score, step) for step, score in self.scores().items()]
    return max(scored)[1] if scored else None

  def scores(self) -> dict[int, float]:
    """step -> validation score, for the checkpoints on disk that have one."""
    found = {}
    for step in self._manager.all_steps():
      metrics = self._manager.metrics(step)
      if metrics is not None:
        found[step] = float(metrics["score"])
    return found

  def save(
    self,
    step: int,
    state: Any,
    data: Any,
    meta: Mapping[str, Any],
    score: float | None = None,
  ) -> None:
    """Starts writing step `step`; returns once device memory has been copied.

    Args:
      state: tree of arrays.
      data: the Grain iterator whose position belongs to this state.
      meta: plain JSON values.
      score: validation score, higher is better; None: kept by recency only.
    """
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        data=grain.checkpoint.CheckpointSave(data),
        meta=ocp.args.JsonSave(dict(meta)),
      ),
      metrics=None if score is None else {"score": float(score)},
    )

  def restore(self, step: int, state: Any, data: Any = None) -> tuple[Any, dict]:
    """(state, meta) of step `step`; sets the position of `data` when given.

    Args:
      state: tree of `jax.ShapeDtypeStruct` with shardings: what to restore, and where
        it shall live, whatever mesh it was saved from.

    Raises:
      CheckpointError: the step is not there, or trees or shapes differ.
    """
    self._check_fit(step, state, whole=True)
    items = {
      "state": ocp.args.StandardRestore(state),
      "meta": ocp.args.JsonRestore(),
    }
    if data is not None:
      items["data"] = grain.checkpoint.CheckpointRestore(data)
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except (ValueError, KeyError, TypeError) as error:
      raise CheckpointError(
        f"checkpoint {self.folder / str(step)} does not fit this config: {error}"
      ) from error
    return restored["state"], restored["meta"]

  def restore_params(self, step: int, params: Any) -> Any:
    """Only the parameters of step `step`, for evaluation: no optimizer is read.

    Args:
      params: tree of `jax.ShapeDtypeStruct` with shardings; parameters that the
        checkpoint has beside them are left there.

    Raises:
      CheckpointError: the step is not there, lacks a parameter, or shapes differ.
    """
    item = {"params": params}
    self._check_fit(step, item, whole=False)
    args = ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      return reader.restore(self._state_folder(step), args=args)["params"]

  def read_params(self, step: int) -> Any:
    """All parameters of step `step` as numpy arrays, for use without their model.

    Raises:
      CheckpointError: the step is not there or holds no parameters.
    """
    self._check_there(step)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      stored = reader.metadata(self._state_folder(step)).item_metadata.tree
      if not stored.get("params"):
        raise CheckpointError(f"{self._state_folder(step)} holds no parameters")
      item = {"params": stored["params"]}
      args = ocp.args.PyTreeRestore(
        item=item,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
        ),
        partial_restore=True,
      )
      return reader.restore(self._state_folder(step), args=args)["params"]

  def _state_folder(self, step: int) -> pathlib.Path:
    return self.folder / str(step) / "state"

  def _check_there(self, step: int) -> None:
    """Raises CheckpointError without step `step`; returns once it is written."""
    if step not in self._manager.all_steps():
      raise CheckpointError(
        f"{self.folder} has no checkpoint of step {step}; it has"
        f" {sorted(self._manager.all_steps())}"
      )
    self.wait()

  def _check_fit(self, step: int, wanted: Any, *, whole: bool) -> None:
    """Names what differs, which Orbax does not (and a missing leaf it passes over)."""
    self._check_there(step)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      stored = tree.shapes(reader.metadata(self._state_folder(step)).item_metadata.tree)
    asked = tree.shapes(wanted)
    names = asked.keys() | (stored.keys() if whole else set())
    # Parameters first: the optimizer's moments only repeat their differences.
    differ = sorted(
      (name for name in names if stored.get(name) != asked.get(name)),
      key=lambda name: (not name.startswith("params/"), name),
    )
    if differ:
      listed = "; ".join(
        f"{name.removeprefix('params/')} is {stored.get(name, 'absent')} there and"
        f" {asked.get(name, 'absent')} here"
        for name in differ[:_NAMED]
      )
      more = f"; {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
      raise CheckpointError(
        f"checkpoint {self.folder / str(step)} does not fit this config: {listed}{more}"
      )

  def wait(self) -> None:
    """Returns when everything started has been written; raises what went wrong."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()


def abstract(state: Any, shardings: Any) -> Any:
  """Shapes and dtypes of `state` with the given shardings, for `restore`."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    state,
    shardings,
  )
