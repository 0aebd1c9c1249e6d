"""Is this dataset what it should be? Behind `--mode=check`.

Looks at records, captions and (each decoded completely) images, compares counts with
the published ones, and returns `Findings`: data, not text. Whether a finding fails a
run is the caller's decision.
"""

import itertools
from collections.abc import Callable, Sequence

from tpr_jax.data import check_images, check_text, published
from tpr_jax.data.findings import SEVERITIES, Finding, Findings
from tpr_jax.data.record import Dataset


def check(
  datasets: Sequence[Dataset],
  *,
  decode: bool = True,
  threads: int = 4,
  progress: Callable[[int, int], None] | None = None,
  examples: int = 5,
) -> Findings:
  """Checks splits, those of one name also against each other.

  Args:
    datasets: splits, of one or several datasets, with whole published splits (not
      what `hold_out` left) if counts are to mean anything.
    decode: open every image; without it only records and captions are looked at.
    threads: images decoded at a time.
    progress: called as progress(images done, images in all).
    examples: how many of each kind of finding are shown.

  Returns:
    Findings, worst first.
  """
  found, rows = [], []
  seen = [None] * len(datasets)
  if decode:
    seen = check_images.look_at_all(datasets, threads, progress)
  for name in dict.fromkeys(dataset.name for dataset in datasets):
    at = [i for i, dataset in enumerate(datasets) if dataset.name == name]
    splits = [datasets[i] for i in at]
    for i in at:
      rows.append(_row(datasets[i].name, datasets[i].split, [datasets[i]]))
      found += _told(datasets[i])
      found += check_text.check(datasets[i], examples)
      found += _listed_twice(datasets[i], examples)
      if decode:
        rows[-1]["sizes"] = check_images.sizes(seen[i])
        found += check_images.check(datasets[i], seen[i], examples)
    for one, other in itertools.combinations(splits, 2):
      found += _between(one, other, examples)
    if decode:
      found += check_images.copies(splits, [seen[i] for i in at], examples)
    if len(splits) > 1:
      rows.append(_row(name, "all", splits))
    found += _against_published(splits, {r["split"]: r for r in rows if _is(r, name)})
    rows += _published_rows(splits)
  found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
  return Findings(tuple(found), tuple(rows))


def _row(name, split, datasets):
  records = [record for dataset in datasets for record in dataset.records]
  captions = [caption for record in records for caption in record.captions]
  return {
    "dataset": name,
    "split": split,
    "images": len(records),
    "captions": len(captions),
    "identities": len({_person(record) for record in records}),
    "words": check_text.statistics(captions),
  }


def _person(record):
  # Where identities are names, a file numbers them for itself: only names compare.
  return record.truth.get("identity_name", record.identity)


def _told(dataset):
  """What the source itself has to say."""
  where = (dataset.name, dataset.split)
  return [Finding("info", "reading", *where, n, text) for n, text in dataset.notes]


def _listed_twice(dataset, examples):
  seen, twice = set(), {}
  for record in dataset.records:
    if record.image in seen:
      twice[record.image] = None
    seen.add(record.image)
  if not twice:
    return []
  message = f"{len(twice):,} images are listed more than once"
  where = (dataset.name, dataset.split, len(twice), message, tuple(twice)[:examples])
  return [Finding("warning", "images-listed-twice", *where)]


def _between(one, other, examples):
  """What two splits of one dataset must not share: identities and images."""
  out = []
  split = f"{one.split}+{other.split}"
  people = {_person(r) for r in one.records} & {_person(r) for r in other.records}
  if people:
    message = (
      f"{len(people):,} identities are in both splits, so the test asks about people "
      "that training saw"
    )
    shown = tuple(map(str, sorted(people, key=str)[:examples]))
    where = (one.name, split, len(people), message, shown)
    out.append(Finding("error", "shared-identities", *where))
  pictures = {r.image for r in one.records} & {r.image for r in other.records}
  if pictures:
    message = f"{len(pictures):,} images are listed in both splits"
    where = (
      one.name,
      split,
      len(pictures),
      message,
      tuple(sorted(pictures)[:examples]),
    )
    out.append(Finding("error", "images-in-two-splits", *where))
  return out


def _source(splits):
  """The published set that these splits are copies of, or None."""
  sources = {record.source for dataset in splits for record in dataset.records}
  source = sources.pop() if len(sources) == 1 else None
  return source if source in published.COUNTS else None


def _is(row, name):
  return row["dataset"] == name and not row.get("published")


def _against_published(splits, rows):
  """Compares the rows of statistics, by split, with the published counts."""
  source = _source(splits)
  if source is None:
    return []
  table = published.COUNTS[source]
  name = splits[0].name
  if not set(table) - {"all"} <= set(rows):
    rows = {split: row for split, row in rows.items() if split != "all"}
  out = []
  for split, row in rows.items():
    if split not in table:
      if split != "all":
        message = f"{source} was published without a {split} split"
        out.append(Finding("warning", "counts", name, split, 1, message))
      continue
    wrong = [
      f"{row[what]:,} {what} (published: {' or '.join(f'{n:,}' for n in accepted)})"
      for what, accepted in table[split]._asdict().items()
      if row[what] not in accepted
    ]
    if wrong:
      hint = published.HINTS.get(source)
      message = "; ".join(wrong) + (f". Note: {hint}" if hint else "")
      out.append(Finding("warning", "counts", name, split, len(wrong), message))
    else:
      message = "images, captions and identities are the published ones"
      out.append(Finding("info", "counts", name, split, 0, message))
  return out


def _published_rows(splits):
  """The paper's row of Table 1, to stand under the measured ones.

  Of a set that has one split, whichever it is, that is the whole.
  """
  source = _source(splits)
  if source is None:
    return []
  table = published.COUNTS[source]
  counts = table.get("all") or next(iter(table.values()))
  words = published.WORDS.get(source)
  return [
    {
      "dataset": source,
      "split": "all",
      "published": True,
      "images": counts.images[0],
      "captions": counts.captions[0],
      "identities": counts.identities[0],
      "words": words._asdict() if words else None,
    }
  ]
