"""What is asked for on the command line, checked before JAX is imported."""

import dataclasses
import os
import pathlib
import re

from tpr_jax.detect.wanted import Wanted
from tpr_jax.search.problems import SearchError

SHEETS = (".html", ".png")
MOST = 10_000  # results of a search
FALSE_ALARMS = 0.05
RERANKED = 1_000  # most pictures of a second look
LONGEST = 2_000  # characters of a sentence; towers read some 77 tokens of it


@dataclasses.dataclass(frozen=True)
class Load:
  """How the towers are loaded; what is None is their own (`loading.load`)."""

  image_size: tuple[int, int] | None = None
  tokenizer: str | None = None
  activation: str | None = None
  second_stage: str | None = None


@dataclasses.dataclass(frozen=True)
class Indexing:
  """--mode=index. model: what `loading.load` takes. metadata: a side-car, or None.
  detect: what cuts people out of the pictures; None: they are taken whole."""

  model: str
  images: pathlib.Path
  index: pathlib.Path
  metadata: pathlib.Path | None = None
  load: Load = dataclasses.field(default_factory=Load)
  detect: Wanted | None = None


@dataclasses.dataclass(frozen=True)
class Searching:
  """--mode=search.

  Attributes:
    model: where the index's model is now; "": where it was.
    sheet: a page or a picture to write, or None.
    json: JSON to standard output in the place of the table.
    false_alarms, rerank: of a Question (answer.py). exact: of `Index.open`.
  """

  index: pathlib.Path
  query: str = ""
  image: pathlib.Path | None = None
  top: int = 20
  where: str = ""
  image_weight: float = 0.5
  model: str = ""
  sheet: pathlib.Path | None = None
  json: bool = False
  false_alarms: float = FALSE_ALARMS
  rerank: int = 0
  exact: bool = False


def indexing(
  *,
  model: str | None,
  images: str | None,
  index: str | None,
  metadata: str | None,
  image_size: str | None,
  tokenizer: str | None,
  activation: str | None,
  detect: Wanted | None = None,
  second_stage: str | None = None,
) -> Indexing:
  """Raises SearchError: something is missing, or is not there."""
  for flag, value, what in (
    ("run", model, "RUN_OR_MODEL, whose towers embed the pictures"),
    ("images", images, "FOLDER of pictures"),
    ("index", index, "DIR, the folder that the index is written to"),
  ):
    if not value:
      raise SearchError(f"--mode=index needs --{flag}={what}")
  folder, table = _path(images), _path(metadata) if metadata else None
  if not folder.is_dir():
    raise SearchError(f"--images={images}: expected a folder, and there is none")
  if table is not None and not table.is_file():
    raise SearchError(f"--metadata={metadata}: there is no such file")
  load = Load(_size(image_size), tokenizer, activation, second_stage)
  return Indexing(model, folder, _path(index), table, load, detect)


def searching(
  *,
  index: str | None,
  query: str | None,
  image: str | None,
  top: int,
  where: str | None,
  image_weight: float | None,
  false_alarms: float = FALSE_ALARMS,
  rerank: int = 0,
  exact: bool = False,
  model: str | None,
  sheet: str | None,
  json: bool,
) -> Searching:
  """Raises SearchError: something is missing, or has a value that it cannot have."""
  if not index:
    raise SearchError("--mode=search needs --index=DIR, written by --mode=index")
  if not (query and query.strip()) and not image:
    raise SearchError(
      '--mode=search needs --query="a woman in a red coat", --image=FILE or both'
    )
  if query and len(query) > LONGEST:
    raise SearchError(
      f"--query has {len(query):,} characters, {LONGEST:,} are the most"
    )
  if image_weight is not None and not (query and image):
    raise SearchError(
      "--image_weight is for --query and --image together: how much the picture counts"
    )
  weight = 0.5 if image_weight is None else image_weight
  if not 0 < weight < 1:
    raise SearchError(
      f"--image_weight={weight:g}: expected a share between 0 and 1, without its ends:"
      " --query or --image alone are those"
    )
  if not 0 < false_alarms < 1:
    raise SearchError(
      f"--false_alarms={false_alarms:g}: expected a share between 0 and 1"
    )
  if not 0 <= rerank <= RERANKED:
    raise SearchError(
      f"--rerank={rerank}: expected the number of pictures to look at again, 0 (none)"
      f" to {RERANKED:,}"
    )
  if rerank and image:
    raise SearchError(
      "--rerank compares words with pictures: leave --image out, or --rerank"
    )
  if not 1 <= top <= MOST:
    raise SearchError(f"--top={top}: expected a whole number from 1 to {MOST:,}")
  if where is not None and not where.strip():
    raise SearchError("--where is empty; leave it out to search in all pictures")
  file = _path(image) if image else None
  if file is not None and not file.is_file():
    raise SearchError(f"--image={image}: there is no such file")
  out = _path(sheet) if sheet else None
  if out is not None and out.suffix.lower() not in SHEETS:
    raise SearchError(
      f"--sheet={sheet}: found the suffix {out.suffix!r}, expected .html or .png"
    )
  if out is not None and not out.absolute().parent.is_dir():
    raise SearchError(f"--sheet={sheet}: there is no folder {out.absolute().parent}")
  query = (query or "").strip()
  place = _path(index)
  return Searching(
    place,
    query=query,
    image=file,
    top=top,
    where=where or "",
    image_weight=weight,
    false_alarms=false_alarms,
    rerank=rerank,
    exact=exact,
    model=model or "",
    sheet=out,
    json=json,
  )


def _path(value: str | None) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(value or ""))


def _size(value: str | None) -> tuple[int, int] | None:
  if value is None:
    return None
  match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", value)
  if match is None:
    raise SearchError(
      f"--image_size={value}: expected HEIGHTxWIDTH, for example 384x128"
    )
  return int(match[1]), int(match[2])
