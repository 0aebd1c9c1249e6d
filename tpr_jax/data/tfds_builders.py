"""tensorflow-datasets builders that write ArrayRecord; TensorFlow is never imported.

For the five published sets, from the user's own copy (nothing is downloaded):

  builder = tfds_builders.Ufine6926(data_dir=ARCHIVE, file_format="array_record")
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=DATA_ROOT)
  )

and for any list of `Dataset`s, `write_archive`. Either is read with
`sources/archive.py`, or by anything else that reads TFDS. This file imports
tensorflow_datasets (a second), so import it only where it is needed.
"""

import io
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from tpr_jax.data import build, images
from tpr_jax.data.record import Dataset, DatasetError

FORMAT = "array_record"


class PersonBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """One example a record, in the source's order.

  Features: image (encoded bytes), name (`Record.image`), identity, captions, source,
  truth (JSON text). A subclass names a SOURCE or overrides `datasets`.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: Mapping[str, str] = {"1.0.0": "First release."}
  SOURCE = ""
  # TFDS looks for checksums of downloads beside the code, with a package that it does
  # not declare (importlib_resources); nothing is downloaded here.
  code_path = None
  # Of the JPEGs made from pictures that are drawn, not read from files.
  QUALITY = 95
  SIZE = None

  def datasets(self, dl_manager) -> Sequence[Dataset]:
    """The splits to write, from the user's copy at `manual_dir`."""
    return build.all_splits(self.SOURCE, dl_manager.manual_dir)

  def _info(self):
    # No encoding_format: copies of one set hold JPEG and PNG side by side, and the
    # bytes are kept as they are. Order is the source's, so shuffling is off.
    return tfds.core.DatasetInfo(
      builder=self,
      description="Text-based person retrieval: images of people with captions.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(None, None, 3)),
          "name": tfds.features.Text(),
          "identity": np.int64,
          "captions": tfds.features.Sequence(tfds.features.Text()),
          "source": tfds.features.Text(),
          "truth": tfds.features.Text(),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    splits = self.datasets(dl_manager)
    return {dataset.split: self._generate_examples(dataset) for dataset in splits}

  def _generate_examples(self, dataset):
    for index, record in enumerate(dataset.records):
      example = {
        # A file object, not an array: TFDS encodes arrays with TensorFlow.
        "image": io.BytesIO(self._encoded(dataset, record)),
        "name": record.image,
        "identity": record.identity,
        "captions": list(record.captions),
        "source": record.source,
        "truth": json.dumps(dict(record.truth), ensure_ascii=False),
      }
      yield index, example

  def _encoded(self, dataset, record):
    read = getattr(dataset.load_image, "read_bytes", None)
    if read is not None:
      return read(record)
    return images.encode_jpeg(dataset.load_image(record, self.SIZE), self.QUALITY)


class _Published(PersonBuilder, skip_registration=True):
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "manual_dir is your data root: the folder that holds the dataset's own folder, in "
    "the layout in which its authors give it out."
  )


class CuhkPedes(_Published):
  """CUHK-PEDES (Li et al., CVPR 2017)."""

  name = SOURCE = "cuhk_pedes"


class IcfgPedes(_Published):
  """ICFG-PEDES (Ding et al., arXiv:2107.12666)."""

  name = SOURCE = "icfg_pedes"


class Rstpreid(_Published):
  """RSTPReid (Zhu et al., ACM Multimedia 2021)."""

  name = SOURCE = "rstpreid"


class Ufine6926(_Published):
  """UFine6926 (Zuo et al., CVPR 2024)."""

  name = SOURCE = "ufine6926"


class Ufine3c(_Published):
  """UFine3C (Zuo et al., CVPR 2024)."""

  name = SOURCE = "ufine3c"


PUBLISHED = (CuhkPedes, IcfgPedes, Rstpreid, Ufine6926, Ufine3c)


def write_archive(
  datasets: Sequence[Dataset],
  folder: str | os.PathLike,
  name: str,
  *,
  quality: int = 95,
  size: tuple[int, int] | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> pathlib.Path:
  """Writes splits as one TFDS dataset of ArrayRecord files.

  Pictures that come from files keep their bytes; drawn ones become JPEGs. Nothing is
  left behind when it fails half-way.

  Args:
    datasets: splits, each with another name.
    folder: where archives are kept; this one becomes folder/name/1.0.0.
    name: lower case letters, digits and underscores, starting with a letter.
    quality: of the JPEGs that are made, 1 to 95.
    size: (height, width) to draw at; None: the renderer's own size. Files keep theirs.
    progress: called as progress(records written, records in all).

  Returns:
    folder/name/1.0.0.

  Raises:
    DatasetError: bad name, no or repeated splits, or the archive is there already.
    ImageError: a picture is missing; `--mode=check` lists all such pictures.
  """
  _check_request(datasets, name, quality)
  builder_class = _archive_class(datasets, name, quality, size, progress)
  builder = builder_class(data_dir=os.fspath(folder), file_format=FORMAT)
  path = pathlib.Path(builder.data_dir)
  if path.exists():
    raise DatasetError(
      f"{path} is there already; remove it, or write under another name or folder"
    )
  bars = tfds.core.utils.tqdm_utils
  try:
    if progress:
      bars.disable_progress_bar()  # two sets of bars in one terminal fight
    with tempfile.TemporaryDirectory() as unused:  # or folder/downloads would be made
      config = tfds.download.DownloadConfig(try_download_gcs=False)
      builder.download_and_prepare(download_dir=unused, download_config=config)
  finally:
    if progress:
      bars.enable_progress_bar()
  return path


def _check_request(datasets, name, quality):
  splits = [dataset.split for dataset in datasets]
  if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
    raise DatasetError(
      f"archive name {name!r}: expected lower case letters, digits and underscores, "
      "starting with a letter"
    )
  if not splits or len(set(splits)) < len(splits):
    raise DatasetError(
      f"found the splits {splits}, expected one dataset for each split"
    )
  if not 1 <= quality <= 95:
    raise DatasetError(f"quality is {quality}, expected 1 to 95")


def _archive_class(datasets, name, quality, size, progress):
  """A builder of these very datasets; TFDS takes the archive's name from the class."""
  total = sum(len(dataset.records) for dataset in datasets)
  done = 0

  class Archive(PersonBuilder, skip_registration=True):
    QUALITY = quality
    SIZE = size

    def datasets(self, dl_manager):
      return datasets

    def _log_download_bytes(self):
      """Says nothing: TFDS would tell that it downloads, and it does not."""

    _log_download_done = _log_download_bytes

    def _generate_examples(self, dataset):
      nonlocal done
      for item in super()._generate_examples(dataset):
        yield item
        done += 1
        if progress:
          progress(done, total)

  Archive.name = name
  return Archive
