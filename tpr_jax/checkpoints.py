"""Checkpoints of a run: state, data position, config and versions, through Orbax.

A checkpoint at step s holds everything that the continued run needs: `state` (step,
parameters, optimizer) and `meta` (plain JSON: the input's position, config, versions,
step, log), with its validation score. Written in the background and made visible by
one rename, with the digests of its files (seal.py), so a checkpoint is whole or known
not to be. Kept: the newest few, and the best few by validation score.
"""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import (
  AnyPreservationPolicy,
  BestN,
  LatestN,
)

from tpr_jax import seal
from tpr_jax.core import processes, storage, tree

FORMAT = 2  # of `meta`; 2: has digests. Written by an earlier version: no such field.
ASIDE = "damaged_checkpoints"  # beside the folder of the checkpoints
_NAMED = 4  # differences that an error lists; a wrong width alone has hundreds
_FULL = ("no space left", "disk quota exceeded", "file too large", "resource_exhausted")


class CheckpointError(Exception):
  """A checkpoint cannot be found, written or used: says which and why."""


class DamagedCheckpoint(CheckpointError):
  """A checkpoint's files are not what was written."""


class Damaged(NamedTuple):
  """A checkpoint that was set aside: its step, why, and where it is now."""

  step: int
  why: str
  place: str


def damage(folder: Any, step: int, *, contents: bool = True) -> str:
  """What is wrong with the checkpoint of one step: "" if nothing can be found.

  Args:
    folder: of the checkpoints.
    contents: read all of its files, not only the small ones.
  """
  place = storage.path(folder) / str(step)
  if not (place / seal.NAME).exists() and _unsealed(place):
    return ""
  return seal.problem(place, contents=contents)


def _absolute(folder: Any) -> epath.Path:
  """A local path from the root; an address (gs://...) as it is."""
  path = storage.path(folder)
  return path if storage.is_address(path) else path.absolute()


def _score(metrics: Mapping[str, float]) -> float:
  return metrics["score"]


def _steps(folder: epath.Path) -> list[int]:
  found = [name for name in storage.names(folder) if name.isdigit()]
  if storage.is_address(folder):  # one that is being written has its name already
    found = [name for name in found if (folder / name / seal.COMMITTED).exists()]
  return sorted(map(int, found))


def _unsealed(place: epath.Path) -> bool:
  """Whether it is a checkpoint of an earlier version, which wrote no digests."""
  meta = place / "meta" / "metadata"
  return meta.exists() and '"format"' not in meta.read_text()


def _set_aside(folder: epath.Path) -> list[Damaged]:
  """Moves what is not whole out of the way, the newest first; contents are read until
  one is whole, of the others the small files, names and sizes."""
  found, whole = [], False
  for step in reversed(_steps(folder)):
    why = damage(folder, step, contents=not whole)
    if not why:
      whole = True
      continue
    aside = folder.parent / ASIDE
    taken = storage.names(aside)
    names = [str(step), *(f"{step}.{n}" for n in range(1, len(taken) + 2))]
    place = aside / next(name for name in names if name not in taken)
    storage.move(folder / str(step), place, why, seal.COMMITTED)
    found.append(Damaged(step, why, str(place)))
  return found


class Checkpoints:
  """The checkpoints in one folder.

  Args:
    folder: made if missing; a local path, or what `etils.epath` takes.
    keep_last: how many of the newest are kept.
    keep_best: how many of the best by `score` are kept beside them.
    read_only: never creates, moves or deletes anything.

  Attributes:
    set_aside: what was not whole when the folder was opened for writing.
  """

  def __init__(
    self,
    folder: Any,
    *,
    keep_last: int = 2,
    keep_best: int = 1,
    read_only: bool = False,
  ):
    self.folder = _absolute(folder)
    if read_only and not self.folder.is_dir():
      raise CheckpointError(f"no checkpoints at {self.folder}: is this a run's folder?")
    found, self._checked = [], set()
    if not read_only:
      first = jax.process_index() == 0
      found = processes.gather(_set_aside(self.folder) if first else [])[0]
    self.set_aside = [Damaged(*each) for each in found]
    if not read_only:  # the newest was read just now
      self._checked.update(_steps(self.folder)[-1:])
    self._manager = None
    if read_only:
      return
    best = BestN(
      get_metric_fn=_score, n=keep_best, keep_checkpoints_without_metrics=False
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
      best_fn=_score,
      best_mode="max",
      cleanup_tmp_directories=True,
      temporary_path_class=seal.path_class(self.folder),
    )
    with self._writing():
      self._manager = ocp.CheckpointManager(self.folder, options=options)

  def latest(self) -> int | None:
    """The newest step saved, or None."""
    return max(self.steps(), default=None)

  def best(self) -> int | None:
    """The step with the highest score (the latest of equals); None if none has one."""
    return next(iter(self.by_score()), None)

  def by_score(self) -> list[int]:
    """The steps that have a score, the highest first, the latest of equals before."""
    scores = self.scores()
    return sorted(scores, key=lambda step: (scores[step], step), reverse=True)

  def steps(self) -> list[int]:
    """All steps saved, those that are still being written included, ascending."""
    if self._manager is not None:
      return sorted(self._manager.all_steps())
    # A folder on a network may be listed differently by each process.
    first = jax.process_index() == 0
    return processes.gather(_steps(self.folder) if first else [])[0]

  def scores(self) -> dict[int, float]:
    """step -> validation score, for the checkpoints on disk that have one."""
    found = {}
    for step in self.steps():
      path = self.folder / str(step) / "metrics" / "metrics"
      if path.exists():
        with suppress(ValueError, KeyError, TypeError):  # `damage` tells
          found[step] = float(_score(json.loads(path.read_text())))
    return found

  def save(
    self, step: int, state: Any, meta: Mapping[str, Any], score: float | None = None
  ) -> None:
    """Starts writing step `step`; returns once device memory has been copied.

    Args:
      state: tree of arrays.
      meta: plain JSON values.
      score: validation score, higher is better; None: kept by recency only.

    Raises:
      CheckpointError: it, or the one before, cannot be written.
    """
    if step in self.steps():
      return
    with self._writing():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          meta=ocp.args.JsonSave(dict(meta, format=FORMAT)),
        ),
        metrics=None if score is None else {"score": float(score)},
      )

  def restore(self, step: int, state: Any) -> tuple[Any, dict]:
    """(state, meta) of step `step`.

    Args:
      state: tree of `jax.ShapeDtypeStruct` with shardings: what to restore, and where
        it shall live, whatever mesh it was saved from.

    Raises:
      CheckpointError: the step is not there or damaged, or trees or shapes differ.
    """
    self._check_fit(step, state, whole=True)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
      args = ocp.args.StandardRestore(state)
      restored = reader.restore(self._state_folder(step), args=args)
    return restored, self.meta(step)

  def meta(self, step: int) -> dict[str, Any]:
    """What was saved beside the state of step `step`."""
    self._check_there(step)
    return json.loads((self.folder / str(step) / "meta" / "metadata").read_text())

  def state_metadata(self, step: int) -> Any:
    """Tree of what the state of step `step` holds: leaves with shape and dtype."""
    self._check_there(step)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      return reader.metadata(self._state_folder(step)).item_metadata.tree

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
    stored = self.state_metadata(step)
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
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      return reader.restore(self._state_folder(step), args=args)["params"]

  def damage(self, step: int) -> str:
    """What is wrong with the files of one step, "" if nothing; they are read once."""
    if step in self._checked:
      return ""
    first = jax.process_index() == 0
    why = processes.gather(damage(self.folder, step) if first else "")[0]
    if not why:
      self._checked.add(step)
    return why

  def state_digests(self, step: int) -> dict[str, Any]:
    """Name of each file of the state of step `step` -> its size and digest."""
    place = self.folder / str(step)
    if (place / seal.NAME).exists():
      found = json.loads((place / seal.NAME).read_text())["files"]
    else:  # of an earlier version
      found = seal.digests(place)
    return {name: list(of) for name, of in found.items() if name.startswith("state/")}

  def _state_folder(self, step: int) -> epath.Path:
    return self.folder / str(step) / "state"

  def _check_there(self, step: int) -> None:
    """Raises CheckpointError without step `step`, or if it is damaged; returns once it
    is written."""
    if step not in self.steps():
      raise CheckpointError(
        f"{self.folder} has no checkpoint of step {step}; it has {self.steps()}"
      )
    self.wait()
    if why := self.damage(step):
      raise DamagedCheckpoint(f"checkpoint {self.folder / str(step)} is damaged: {why}")

  def _check_fit(self, step: int, wanted: Any, *, whole: bool) -> None:
    """Names what differs, which Orbax does not (and a missing leaf it passes over)."""
    stored = tree.shapes(self.state_metadata(step))
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
    if self._manager is not None:
      with self._writing():
        self._manager.wait_until_finished()

  def close(self) -> None:
    if self._manager is not None:
      with self._writing():
        self._manager.close()

  @contextmanager
  def _writing(self) -> Iterator[None]:
    """Errors of writing, in the background or not, for people."""
    try:
      yield
    except Exception as error:
      full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
      if not full and not any(word in str(error).lower() for word in _FULL):
        if not storage.is_address(self.folder):
          raise
        raise CheckpointError(
          f"{self.folder} cannot be written: {storage.why(error)}. What was saved"
          " before is whole; the same command continues from the newest"
        ) from error
      kept = ", ".join(map(str, _steps(self.folder))) or "none"
      raise CheckpointError(
        f"no space left for a checkpoint in {self.folder} ({_free(self.folder)}): the"
        f" earlier ones (steps: {kept}) are whole. Make room; the same command then"
        " continues from the newest"
      ) from error


def _free(folder: epath.Path) -> str:
  """How much room there is, where that can be known."""
  try:
    return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"
  except OSError:
    return "its room is not known"


def abstract(state: Any, shardings: Any) -> Any:
  """Shapes and dtypes of `state` with the given shardings, for `restore`."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    state,
    shardings,
  )
