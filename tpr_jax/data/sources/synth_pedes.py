"""SYNTH-PEDES: Zuo et al., "PLIP", NeurIPS 2024, arXiv:2305.08386.

A JSON list of {"id", "file_path", "captions": [two or three], "attributes",
"prompt_caption"}; the last two go to `truth`. The texts were made by a captioner.

GA-DMS (arXiv:2509.09118) trained on 1,000,000 records, drawn without a seed, each an
identity of its own: `sample=1000000` draws as many, from `seed`; `identity="id"` takes
the identities of the authors.
"""

import os
from typing import Any

import numpy as np

from tpr_jax.data.record import Dataset, DatasetError, Note
from tpr_jax.data.sources import annotations as notes
from tpr_jax.data.sources import layouts, pretraining

LAYOUT = layouts.Layout(
  name="synth_pedes",
  folder="SYNTH-PEDES",
  annotations=("*.json",),
  images="",
  example="Part1/7/1.jpg",
  paper=(
    'Zuo et al., "PLIP: Language-Image Pre-training for Person Representation '
    'Learning", NeurIPS 2024, arXiv:2305.08386'
  ),
  request="https://github.com/Zplusdragon/PLIP",
  obtained=layouts.PUBLIC,
  tree=(
    "synthpedes_dataset.json   (one JSON file, any name)",
    "Part1/7/1.jpg             and the other images",
  ),
)
IDENTITIES = ("record", "id")


def load(
  root: str | os.PathLike,
  split: str,
  *,
  annotations: str | None = None,
  images: str = LAYOUT.images,
  sample: int = 0,
  seed: int = 0,
  identity: str = "record",
) -> Dataset:
  """The whole set, which is its split train, or a sample of it in the file's order.

  Args:
    root: the data root, a folder that holds SYNTH-PEDES/.
    split: "train".
    annotations: the file's name below SYNTH-PEDES/; None: the one JSON file there.
    images: folder below SYNTH-PEDES/ that the paths in the JSON start from.
    sample: how many records are drawn; 0: all.
    seed: of that draw.
    identity: "record": each is a person of its own, numbered in order; the key "id",
      where there is one, goes to `truth`. "id": that number is the person.

  Raises:
    DatasetError: the set is not there, its file is broken or of another shape, it has
      fewer than `sample` records, or `identity` is another word.
    SplitError: another split.
  """
  paths = pretraining.find(LAYOUT, root, split, annotations)
  path = layouts.only_one(LAYOUT, root, paths)
  pretraining.whole_number(LAYOUT, "sample", sample)
  pretraining.whole_number(LAYOUT, "seed", seed)
  if identity not in IDENTITIES:
    raise DatasetError(
      f"synth_pedes: the option identity is {identity!r}, expected "
      f"{' or '.join(map(repr, IDENTITIES))}"
    )
  load_image = pretraining.file_images(LAYOUT, root, images)
  entries = notes.read_json(path)
  total = len(entries)
  if sample > total:
    raise DatasetError(
      f"synth_pedes: sample={sample:,}, and {path} has {total:,} records; expected no "
      "more than that, or 0 for all"
    )
  order = np.random.default_rng(seed).permutation(total)
  chosen = np.sort(order[:sample]).tolist() if sample else range(total)
  drawn = pretraining.numbered(entries, chosen)
  gathered = pretraining.Gathered(LAYOUT)
  gathered.read(path, drawn, _by_id if identity == "id" else _by_record)
  said = f"{total - sample:,} of {total:,} records were not drawn (sample={sample})"
  return gathered.dataset(load_image, Note(sample and total - sample, said))


def _by_record(entry: Any) -> pretraining.Listing:
  image, truth = pretraining.image_and_rest(entry, "file_path", "captions")
  return pretraining.Listing(image, *notes.as_captions("captions", entry), truth)


def _by_id(entry: Any) -> pretraining.Listing:
  found = _by_record(entry)
  person = notes.as_identity("id", notes.take(entry, "id"))
  truth = {key: value for key, value in found.truth.items() if key != "id"}
  return found._replace(identity=person, truth=truth)
