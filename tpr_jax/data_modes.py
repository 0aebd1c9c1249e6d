"""The modes that only look at data: check it, write it as files or as an archive."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict
from tqdm import tqdm

from tpr_jax.data import build
from tpr_jax.data import check as checks
from tpr_jax.data.record import Dataset
from tpr_jax.data.rendered import write as files
from tpr_jax.data.transforms import build as build_pipe


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
  """A progress(done, total) callback: a bar on a terminal, silence elsewhere."""
  with tqdm(desc=what, unit="image", disable=not sys.stderr.isatty()) as bar:

    def show(done: int, total: int) -> None:
      bar.total = total
      bar.update(done - bar.n)

    yield show


def _datasets(config: ConfigDict) -> list[Dataset]:
  """Every split that the config's dataset has, with the loader options for training."""
  data = config.data
  return build.all_splits(data.name, data.root, data.options.to_dict())


def check(config: ConfigDict, out: pathlib.Path | None) -> int:
  """Prints what is wrong or doubtful; with `out`, also writes `check.json` there.

  Returns:
    1 if there is an error (a warning is none), else 0: for scripts.
  """
  with _progress("reading") as progress:
    findings = checks.check(_datasets(config), progress=progress)
  print(findings.render())
  if out is not None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "check.json"
    path.write_text(json.dumps(findings.to_json(), indent=1) + "\n", encoding="utf-8")
    print(f"\nWritten: {path}")
  return int(findings.worst == "error")


def write(config: ConfigDict, out: pathlib.Path) -> int:
  """Writes the dataset as JPEG + JSON in the UFine6926 layout below `out`."""
  with _progress("writing") as progress:
    path = files.write(_datasets(config), out, progress=progress)
  print(
    f"Written: {path}\nTrain on it: python -m tpr_jax.main"
    f" --config=configs/cfam.py:ufine6926,variant=tiny --config.data.root={out}"
  )
  return 0


def archive(config: ConfigDict, out: pathlib.Path) -> int:
  """Writes the dataset as ArrayRecord files (tensorflow-datasets) below `out`."""
  from tpr_jax.data import tfds_builders  # slow to import, and needed here only

  name = config.data.name
  size = build_pipe(config.data.eval_image).size
  with _progress("archiving") as progress:
    path = tfds_builders.write_archive(
      _datasets(config), out, name, size=size, progress=progress
    )
  print(
    f"Written: {path}\nTrain from it: python -m tpr_jax.main"
    f" --config=configs/cfam.py:archive,variant=tiny --config.data.root={out}"
  )
  return 0
