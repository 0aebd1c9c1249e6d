"""Every picture of a dataset opened once: what is missing, broken, odd or a copy."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import statistics as stats
from collections.abc import Callable, Sequence

from tpr_jax.data import images
from tpr_jax.data.findings import Finding
from tpr_jax.data.record import Dataset, ImageError, Record

_SAY = {
  "grayscale": "grayscale: colour words in their captions cannot be seen",
  "cmyk": "CMYK: converted to RGB, with colours that may differ from a viewer's",
  "palette": "palette images",
  "transparent": "with transparency: laid over white",
  "16-bit": "16 bits deep: scaled to 8",
  "exif-rotated": "rotated by EXIF: other code that ignores EXIF sees them lying",
  "exif-unreadable": "with an EXIF block that cannot be parsed: used as stored",
  "animated": "animations: the first frame is used",
}


@dataclasses.dataclass(frozen=True)
class Seen:
  """What opening one record's picture gave; `digest` is None for drawn pictures."""

  error: ImageError | None
  height: int = 0
  width: int = 0
  oddities: tuple[str, ...] = ()
  digest: bytes | None = None


def look(dataset: Dataset, record: Record) -> Seen:
  """Reads and decodes one picture completely."""
  read = getattr(dataset.load_image, "read_bytes", None)
  try:
    if read is None:
      height, width = dataset.load_image(record, None).shape[:2]
      return Seen(None, height, width)
    data = read(record)
    _, facts = images.inspect(data, record.image)
  except ImageError as error:
    return Seen(error)
  digest = hashlib.blake2b(data, digest_size=16).digest()
  return Seen(None, facts.height, facts.width, facts.oddities, digest)


def look_at_all(
  datasets: Sequence[Dataset],
  threads: int,
  progress: Callable[[int, int], None] | None,
) -> list[list[Seen]]:
  """`look` for every record of every dataset; progress(done, total) after each."""
  jobs = [(dataset, record) for dataset in datasets for record in dataset.records]
  pool = concurrent.futures.ThreadPoolExecutor(max(1, threads))
  try:
    seen = []
    for result in pool.map(lambda job: look(*job), jobs):
      seen.append(result)
      if progress:
        progress(len(seen), len(jobs))
  finally:
    pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C does not wait for the rest
  results = iter(seen)
  return [[next(results) for _ in dataset.records] for dataset in datasets]


def sizes(seen: Sequence[Seen]) -> dict[str, list[int]] | None:
  """{"height", "width"}: least, median and largest of the readable pictures."""
  good = [each for each in seen if each.error is None]
  if not good:
    return None
  sides = {"height": [s.height for s in good], "width": [s.width for s in good]}
  return {k: [min(v), int(stats.median(v)), max(v)] for k, v in sides.items()}


def check(dataset: Dataset, seen: Sequence[Seen], examples: int) -> list[Finding]:
  """Missing, unreadable and odd pictures of one split."""
  missing, broken, absurd = [], [], []
  odd = collections.defaultdict(list)
  for record, each in zip(dataset.records, seen, strict=True):
    if isinstance(each.error, images.MissingImage):
      missing.append(record.image)
    elif isinstance(each.error, images.AbsurdSize):
      absurd.append(str(each.error))
    elif each.error is not None:
      broken.append(str(each.error))
    for kind in each.oddities:
      odd[kind].append(record.image)

  def finding(severity, kind, found, message):
    shown = tuple(found[:examples])
    return Finding(
      severity, kind, dataset.name, dataset.split, len(found), message, shown
    )

  out = []
  if missing:
    folders = {name.rpartition("/")[0] for name in missing}
    message = (
      f"{len(missing):,} of {len(dataset.records):,} images are not on disk "
      f"(in {len(folders):,} {'folder' if len(folders) == 1 else 'folders'})"
    )
    out.append(finding("error", "missing-images", missing, message))
  if broken:
    message = f"{len(broken):,} images cannot be decoded"
    out.append(finding("error", "unreadable-images", broken, message))
  if absurd:
    message = f"{len(absurd):,} images have a size that no picture of a person has"
    out.append(finding("error", "absurd-sizes", absurd, message))
  for kind, found in sorted(odd.items()):
    message = f"{len(found):,} images are {_SAY[kind]}"
    out.append(finding("info", f"images-{kind}", found, message))
  return out


def copies(
  datasets: Sequence[Dataset], seen: Sequence[Sequence[Seen]], examples: int
) -> list[Finding]:
  """Files with the same bytes under different names, over the splits of one dataset."""
  places = collections.defaultdict(dict)
  for dataset, row in zip(datasets, seen, strict=True):
    for record, each in zip(dataset.records, row, strict=True):
      if each.digest is not None:
        where = (dataset.split, record.identity)
        places[each.digest].setdefault(record.image, where)
  kinds = collections.defaultdict(list)
  for named in places.values():
    if len(named) < 2:
      continue
    splits = {split for split, _ in named.values()}
    people = {identity for _, identity in named.values()}
    kind = "between" if len(splits) > 1 else "people" if len(people) > 1 else "same"
    kinds[kind].append(" = ".join(named))
  say = {
    "between": ("error", "pictures lie in two splits under different names"),
    "people": ("warning", "pictures are listed as different identities"),
    "same": ("info", "pictures of one identity are stored more than once"),
  }
  return [
    Finding(
      say[kind][0],
      f"copied-images-{kind}",
      datasets[0].name,
      "+".join(d.split for d in datasets),
      len(found),
      f"{len(found):,} identical {say[kind][1]}",
      tuple(found[:examples]),
    )
    for kind, found in kinds.items()
  ]
