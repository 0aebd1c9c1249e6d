"""MALS: Yang et al., "APTM", ACM Multimedia 2023, arXiv:2306.02898. Made pictures.

JSON lists of {"image", "caption", "image_id", "label": 27 attributes}, in 91 files. All
keys but the first two go to `truth`, as they are: label[i] is 0 or 1 (the first or the
second prompt of a pair is true) or -1 (unknown).

An image is an identity. One that is listed twice: GA-DMS's code (arXiv:2509.09118)
gives it both captions twice, under two identities, which are then wrong answers to each
other; here it is one record with the distinct captions.
"""

import os
from typing import Any

from tpr_jax.data.record import Dataset
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
  gathered = pretraining.Gathered(LAYOUT)
  for path in paths:
    gathered.read(path, pretraining.numbered(notes.read_json(path)), _listing)
  return gathered.dataset(load_image)


def _listing(entry: Any) -> pretraining.Listing:
  image, truth = pretraining.image_and_rest(entry, "image", "caption")
  return pretraining.Listing(image, *notes.as_sentences(["caption"], entry), truth)
