"""LUPerson-T: Shao et al., "UniPT", ICCV 2023, arXiv:2309.01420. Pictures of LUPerson.

An Arrow IPC file (of the file or the stream format) whose column `caption` has a list
of texts, put together from phrases, for each image. Row n is the picture n.jpg, counted
from 0, and an identity. GA-DMS (arXiv:2509.09118) leaves the last 100,000 rows out;
that is the default here. Other columns are not read.
"""

import os
from typing import Any

from tpr_jax.data.record import Dataset, DatasetError, Note
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining, tables

LAYOUT = layouts.Layout(
  name="luperson_t",
  folder="LUPerson-T",
  annotations=("*.arrow",),
  images="images",
  example="0.jpg",
  paper=(
    'Shao et al., "Unified Pre-training with Pseudo Texts for Text-To-Image Person '
    'Re-identification", ICCV 2023, arXiv:2309.01420'
  ),
  request="https://github.com/ZhiyinShao-H/UniPT",
  obtained=layouts.PUBLIC,
  tree=(
    "LUPerson_train.arrow   (one Arrow file, any name)",
    "images/0.jpg           and the other images, named by their row",
  ),
)


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
  drop_last: int = 100_000,
) -> Dataset:
  """The whole set, which is its split train, without its last rows.

  Args:
    root: the data root, a folder that holds LUPerson-T/.
    split: "train".
    annotations: the file's name below LUPerson-T/; None: the one *.arrow there.
    images: folder below LUPerson-T/ with the pictures.
    drop_last: how many rows at the end are left out.

  Raises:
    DatasetError: the set is not there, its file is broken or has other columns, or no
      more than `drop_last` rows.
    SplitError: another split.
  """
  paths = pretraining.find(LAYOUT, root, split, annotations)
  path = layouts.only_one(LAYOUT, root, paths)
  pretraining.whole_number(LAYOUT, "drop_last", drop_last)
  load_image = pretraining.file_images(LAYOUT, root, images)
  gathered = pretraining.Gathered(LAYOUT)
  rows = tables.arrow_lists(path, "caption")
  gathered.read(path, ((row, (row, value)) for row, value in rows), _listing, "row")
  total = len(gathered.records)
  if drop_last and drop_last >= total:
    raise DatasetError(
      f"luperson_t: {path} has {total:,} rows, and drop_last={drop_last:,} leaves none "
      "of them; drop_last=0 keeps all"
    )
  del gathered.records[total - drop_last :]
  said = f"the last {drop_last:,} of {total:,} rows are left out (drop_last)"
  end = (
    f"{path.name} has no mark at its end: was it cut off? Compare the file's size with "
    "the original's"
  )
  unfinished = Note(int(tables.unfinished(path)), end)
  return gathered.dataset(load_image, Note(drop_last, said), unfinished)


def _listing(numbered: tuple[int, Any]) -> pretraining.Listing:
  row, value = numbered
  captions = notes.as_captions("captions", {"captions": value})
  return pretraining.Listing(f"{row}.jpg", *captions)
