"""The modes that only look at data: check it, write it as files, archive or shards."""

import contextlib
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict
from tqdm import tqdm

from tpr_jax import config as configs
from tpr_jax.core import lock
from tpr_jax.data import build, kept
from tpr_jax.data import check as checks
from tpr_jax.data.damage import MAX_BROKEN, Damage
from tpr_jax.data.record import Dataset
from tpr_jax.data.rendered import write as rendered
from tpr_jax.data.shards import format as files
from tpr_jax.data.shards import write as writer
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
  """Every split that the config's dataset has, with the loader options for training.

  Of the training split the kept pairs alone, where data.filter says so."""
  data = config.data
  found = build.all_splits(data.name, data.root, data.options.to_dict())
  folder = data.get("filter", "")
  return [kept.filtered(d, folder) if d.split == data.train else d for d in found]


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
    path = rendered.write(_datasets(config), out, progress=progress)
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


def shards(
  config: ConfigDict,
  out: pathlib.Path,
  resize: str | None,
  quality: int | None,
  size_mb: float,
) -> int:
  """Writes the dataset as shards below `out`, split by split; again: goes on.

  Args:
    resize: "384x128", or None: pictures keep their size, files their bytes.
    quality: of the JPEGs that are made, or None: 95.
    size_mb: of a shard, in millions of bytes.

  Raises:
    ConfigError: values that cannot be used.
  """
  recipe = writer.Recipe(
    resize=_size(resize),
    quality=95 if quality is None else quality,
    size=build_pipe(config.data.eval_image).size,
    shard_bytes=round(size_mb * 10**6),
  )
  data, name = config.data, config.data.name
  with _alone(out), _progress("writing") as progress:
    whole = _datasets(config)
    if quality is not None and not any(map(recipe.encodes, whole)):
      raise configs.ConfigError(
        f"--quality={quality} does nothing here: pictures from files keep their bytes"
        " unless --resize is given"
      )
    splits = [split for split in whole if not _there(split, out, recipe)]
    if not splits:
      raise configs.ConfigError(
        f"all splits of {name} are there already, in {out / whole[0].name}: remove"
        " them, or give another --out"
      )
    total, before = sum(len(split.records) for split in splits), 0
    for split in splits:
      made = writer.write_shards(
        split,
        out,
        recipe,
        threads=data.threads,
        max_broken=data.get("max_broken", MAX_BROKEN),
        progress=lambda done, _, before=before: progress(before + done, total),
      )
      before += made.records
      _say(made, out / split.name / split.split)
  print(
    f"Written: {out / whole[0].name}\nTrain from it: python -m tpr_jax.main"
    f" --config=configs/cfam.py:shards,variant=tiny --config.data.root={out}"
  )
  return 0


def _size(text: str | None) -> tuple[int, int] | None:
  """ "384x128" -> (384, 128). Raises ConfigError."""
  if text is None:
    return None
  found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
  if not found:
    raise configs.ConfigError(f"--resize={text}: expected HEIGHTxWIDTH, as 384x128")
  return int(found[1]), int(found[2])


@contextlib.contextmanager
def _alone(out: pathlib.Path) -> Iterator[None]:
  """No two commands write the same set."""
  try:
    with lock.alone(out / ".shards.lock", "--mode=shards"):
      yield
  except lock.Locked as error:
    raise configs.ConfigError(f"{out}: another command is writing shards") from error


def _there(split: Dataset, out: pathlib.Path, recipe: writer.Recipe) -> bool:
  """Whether an earlier command has written this split to its end; says so."""
  made = writer.finished(split, out, recipe)
  if made is not None:
    print(f"{made.name}/{made.split}: there already", flush=True)
  return made is not None


def _say(made: files.Manifest, folder: pathlib.Path) -> None:
  size = sum(shard.bytes for shard in made.shards)
  print(
    f"{made.name}/{made.split}: {made.records:,} images, {made.captions:,} captions,"
    f" {made.identities:,} identities; {len(made.shards):,} shards, {size / 1e9:.2f} GB"
  )
  bad = Damage.from_json(configs.read_json(folder / files.DAMAGE))
  if bad:
    print(f"{len(bad):,} bad pictures; see {folder / files.DAMAGE}.")
    print("\n".join(bad.lines()), flush=True)
