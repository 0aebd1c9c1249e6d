"""LUPerson-MLLM: Tan et al., CVPR 2024, arXiv:2405.04940. Pictures of LUPerson.

JSON files of {image path: caption}, one for each way that captions were written (Ts: a
fixed question, Td: templates; by Qwen-VL and Shikra), joined by the base name of the
image: up to four captions each. Pictures lie side by side in one folder, under these
names; images are taken in the order of names, each an identity.

Some captions still hold marks of their template: "description]" or "<". As in GA-DMS
(arXiv:2509.09118) such a one is replaced by another of its image, drawn from the Td
files (the authors of the set draw from the Ts files: `spare="Ts"`). Departures: the
draw is seeded, and from captions without marks alone, while the references may draw a
marked one. Where there is none to draw, the caption stays, as there. The replaced text
is kept as `truth["replaced"]`. The references list the pictures that are on disk; here
it is the images that have captions.
"""

import hashlib
import os
import pathlib

from tpr_jax.data.record import Dataset, DatasetError, Note, Record
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining

LAYOUT = layouts.Layout(
  name="luperson_mllm",
  folder="LUPerson-MLLM",
  annotations=("*.json", "caption/*.json"),
  images="images",
  example="0000001.jpg",
  paper=(
    'Tan et al., "Harnessing the Power of MLLMs for Transferable Text-to-Image Person '
    'ReID", CVPR 2024, arXiv:2405.04940'
  ),
  request="https://github.com/WentaoTan/MLLM4Text-ReID",
  obtained=layouts.PUBLIC,
  tree=(
    "caption/Td-qwen.json    and the other JSON files of captions",
    "images/0000001.jpg      and the other images, all in this folder",
  ),
)
MARKS = ("description]", "<")


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
  spare: str = "Td",
  seed: int = 0,
) -> Dataset:
  """The whole set, which is its split train.

  Args:
    root: the data root, a folder that holds LUPerson-MLLM/.
    split: "train".
    annotations: a file's name below LUPerson-MLLM/, or a pattern of several; None: all
      JSON files there and in caption/.
    images: folder below LUPerson-MLLM/ with the pictures.
    spare: captions with marks are replaced by captions of files whose names begin so;
      "": they are not replaced.
    seed: of that draw.

  Raises:
    DatasetError: the set is not there, its files are broken or of another shape, or no
      name begins with `spare`.
    SplitError: another split.
  """
  paths = pretraining.find(LAYOUT, root, split, annotations)
  pretraining.whole_number(LAYOUT, "seed", seed)
  load_image = pretraining.file_images(LAYOUT, root, images)
  texts, spares, unusable, twice = _gather(paths, spare)
  records, replaced, left = [], 0, 0
  for identity, name in enumerate(sorted(texts)):
    captions, before = _replace(name, texts[name], spares.get(name, ()), seed)
    replaced += len(before)
    left += sum(map(_marked, captions))
    records.append(
      Record(
        image=name,
        identity=identity,
        captions=captions,
        split="train",
        source=LAYOUT.name,
        truth={"replaced": before} if before else {},
        unusable=tuple(unusable.get(name, ())),
      )
    )
  said = filter(lambda note: note.count, _notes(replaced, left, twice, spare, seed))
  return Dataset(LAYOUT.name, "train", tuple(records), load_image, tuple(said))


def _gather(paths: list[pathlib.Path], spare: str) -> tuple[dict, dict, dict, int]:
  """(captions, those to draw from, why others are none: by image; names met twice)."""
  if spare and not any(path.name.startswith(spare) for path in paths):
    raise DatasetError(
      f"luperson_mllm: no name begins with spare={spare} among "
      f"{', '.join(path.name for path in paths)}, so nothing is there to replace "
      "captions with marks of their template; spare= (empty) leaves them as they are"
    )
  texts, spares, unusable, twice = {}, {}, {}, 0
  for path in paths:
    found, again = _read(path, texts, unusable)
    twice += again
    if spare and path.name.startswith(spare):
      for name, captions in found.items():
        clean = [text for text in captions if not _marked(text)]
        spares.setdefault(name, []).extend(clean)
  return texts, spares, unusable, twice


def _read(path: pathlib.Path, texts: dict, unusable: dict) -> tuple[dict, int]:
  """Adds the captions of one file to those by image.

  Returns the file's own, and how many of its names had been in the file before.
  """
  problems, reasons = pretraining.Problems(path), pretraining.Problems(path)
  found, twice = {}, 0
  for image, caption in notes.read_json(path, dict).items():
    name = image.replace("\\", "/").rpartition("/")[2]
    if name in ("", ".", ".."):
      what = f"found the image path {image!r}, expected one that ends in a file's name"
      problems.add(f"image {image!r}", notes.Problem(what))
      continue
    twice += name in found
    found.setdefault(name, [])
    texts.setdefault(name, [])
    if isinstance(caption, str):
      found[name].append(caption)
      texts[name].append(caption)
    else:
      reason = f"{path.name}: found {notes.kind(caption)}, expected a sentence"
      unusable.setdefault(name, []).append(reason)
      reasons.add(f"image {image!r}", notes.Problem(reason))
  problems.check()
  if not any(found.values()):
    reasons.check()
  return found, twice


def _marked(text: str) -> bool:
  return any(mark in text for mark in MARKS)


def _replace(name, captions, spares, seed) -> tuple[tuple[str, ...], list[str]]:
  """(captions with the marked ones replaced, those that were)."""
  if not spares or not any(map(_marked, captions)):
    return tuple(captions), []
  out = [
    spares[_draw(seed, name, at, len(spares))] if _marked(text) else text
    for at, text in enumerate(captions)
  ]
  return tuple(out), [text for text in captions if _marked(text)]


def _draw(seed, name, at, count) -> int:
  """A number below count; of each caption its own, whatever else is in the files."""
  key = f"{seed}/{at}/{name}".encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) % count


def _notes(replaced, left, twice, spare, seed):
  marks = " or ".join(map(repr, MARKS))
  yield Note(
    replaced,
    f"{replaced:,} captions with {marks} were replaced by another of the same image "
    f"from {spare}*.json (seed {seed})",
  )
  yield Note(
    left,
    f"{left:,} captions with {marks} are as they were: "
    + ("no other caption of the image is there" if spare else "spare is empty"),
  )
  yield Note(
    twice, f"{twice:,} images have the base name of another: joined under that name"
  )
