"""MALS: Yang et al., "APTM", ACM Multimedia 2023, arXiv:2306.02898. Made pictures.

JSON lists of {"image", "caption", "image_id", "label": 27 attributes}, in 91 files. All
keys but the first two go to `truth`: label[i] is 0 or 1 (the first or the second prompt
of a pair is true) or -1 (unknown). Anything else is taken as unknown, and counted. A
label that is no list of 27 is left out, and counted too; where all are, it is an error.

An image is an identity. One that is listed twice: GA-DMS's code (arXiv:2509.09118)
gives it both captions twice, under two identities, which are then wrong answers to each
other; here it is one record with the distinct captions.
"""

import os
from typing import Any

from tpr_jax.data.record import Dataset, DatasetError, Note
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining

LAYOUT = layouts.Layout(
  name="mals",
  folder="MALS",
  annotations=("*.json", "gene_attrs/*.json"),
  images="",
  example="gene_crop/c_g_a_0/0.jpg",
  paper=(
    'Yang et al., "Towards Unified Text-based Person Retrieval: A Large-scale '
    'Multi-Attribute and Language Search Benchmark", ACM Multimedia 2023, '
    "arXiv:2306.02898"
  ),
  request="https://github.com/Shuyu-XJTU/APTM",
  obtained=layouts.PUBLIC,
  tree=(
    "gene_attrs/g_4x_attrs.json    and the other 90 JSON files",
    "gene_crop/c_g_a_0/0.jpg       and the other images",
  ),
)
ATTRIBUTES = 27


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
) -> Dataset:
  """The whole set, which is its split train.

  Args:
    root: the data root, a folder that holds MALS/.
    split: "train".
    annotations: a file's name below MALS/, or a pattern of several; None: all JSON
      files there and in gene_attrs/.
    images: folder below MALS/ that the paths in the JSON start from.

  Raises:
    DatasetError: the set is not there, or its files are broken or of another shape.
    SplitError: another split.
  """
  paths = pretraining.find(LAYOUT, root, split, annotations)
  load_image = pretraining.file_images(LAYOUT, root, images)
  gathered, reading = pretraining.Gathered(LAYOUT), _Reading()
  for path in paths:
    gathered.read(path, pretraining.numbered(notes.read_json(path)), reading)
  return gathered.dataset(load_image, *reading.notes(LAYOUT.folder))


def listed(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
) -> list[notes.Listed]:
  """The files that `load` reads, entry by entry. Raises as `load`."""
  del images
  paths = pretraining.find(LAYOUT, root, split, annotations)
  where = [notes.below(root, path, LAYOUT.folder) for path in paths]
  return [
    notes.Listed(path, place, _pair) for path, place in zip(paths, where, strict=True)
  ]


def _pair(entry: Any) -> tuple[str, str]:
  image, _ = pretraining.image_and_rest(entry, "image", "caption")
  (caption,), _ = notes.as_sentences(["caption"], entry)
  return image, caption


class _Reading:
  """Entries -> listings; counts what is wrong with their labels."""

  def __init__(self):
    self._labels = self._wrong = self._unknown = 0
    self._first: Any = None  # of the wrong ones

  def __call__(self, entry: Any) -> pretraining.Listing:
    image, truth = pretraining.image_and_rest(entry, "image", "caption")
    if "label" in truth:
      label = self._label(truth.pop("label"))
      truth |= {"label": label} if label else {}
    return pretraining.Listing(image, *notes.as_sentences(["caption"], entry), truth)

  def _label(self, label: Any) -> list[int] | None:
    self._labels += 1
    if not isinstance(label, list) or len(label) != ATTRIBUTES:
      self._first = self._first or notes.kind(label)
      self._wrong += 1
      return None
    known = [value if _is_label(value) else -1 for value in label]
    self._unknown += sum(map(_is_label, label)) < ATTRIBUTES
    return known

  def notes(self, where: str) -> tuple[Note, ...]:
    """What was counted. Raises DatasetError where no label can be used."""
    if self._wrong and self._wrong == self._labels:
      raise DatasetError(
        f"mals: no label of the JSON files in {where} is a list of {ATTRIBUTES} "
        f"attributes; found {self._first}"
      )
    return (
      Note(
        self._wrong,
        f"{self._wrong:,} labels are no list of {ATTRIBUTES} attributes (such as "
        f"{self._first}) and are left out",
      ),
      Note(
        self._unknown,
        f"{self._unknown:,} labels hold values other than 0, 1 and -1, which are taken "
        "as -1, unknown",
      ),
    )


def _is_label(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value in (0, 1, -1)
