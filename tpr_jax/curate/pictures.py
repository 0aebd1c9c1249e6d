"""The pictures of the new set: copied, linked, or referred to; drawn where need be."""

import io
import os
import pathlib
import shutil
import uuid

from PIL import Image

from tpr_jax.curate.plan import Chosen
from tpr_jax.curate.problems import CurateError
from tpr_jax.data.images import FileImages
from tpr_jax.data.record import Record

FOLDER = "images"


def is_file(one: Chosen) -> bool:
  """Are the source's pictures files (and not drawn, or inside an archive)?"""
  return isinstance(one.dataset.load_image, FileImages)


def file_path(one: Chosen, record: Record) -> str:
  """Where a record's picture is, below the set's folder."""
  return f"{FOLDER}/{one.source.key}/{record.image}{'' if is_file(one) else '.jpg'}"


def place(
  one: Chosen,
  record: Record,
  home: pathlib.Path,
  how: str,
  *,
  size: tuple[int, int],
  quality: int,
) -> None:
  """Puts one picture where `file_path` says, unless it is there already.

  Args:
    home: the set's folder.
    how: "copy", "link" (a hard link: same file, no space) or "reference" (a symbolic
      link to where the picture is now). Pictures that are no files are written as
      JPEG whatever `how` says.
    size: (height, width) that pictures are drawn at. quality: of those JPEGs.

  Raises:
    CurateError: a link cannot be made there. ImageError: no picture.
  """
  path = home / file_path(one, record)
  path.parent.mkdir(parents=True, exist_ok=True)
  if not is_file(one):
    if not path.exists():
      pixels, data = one.dataset.load_image(record, size), io.BytesIO()
      Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling=0)
      _whole(path, lambda at: at.write_bytes(data.getvalue()))
    return
  original = one.dataset.load_image.path(record).resolve()
  if _there(path, original, how):
    return
  make = {
    "copy": lambda at: shutil.copyfile(original, at),
    "link": lambda at: at.hardlink_to(original),
    "reference": lambda at: at.symlink_to(original),
  }[how]
  try:
    _whole(path, make)
  except OSError as error:
    if how == "copy":
      raise
    raise CurateError(
      f"{path} cannot be made a {how} of {original}: {error.strerror}. Hard links need"
      " one file system for both; --config.images=copy always works"
    ) from error


def _there(path, original, how):
  if how == "reference":
    return path.is_symlink() and path.resolve() == original
  if not path.exists() or path.is_symlink():
    return False
  if how == "link":
    return path.samefile(original)
  return path.stat().st_size == original.stat().st_size


def _whole(path, make):
  """Under another name first: a killed process leaves no half picture."""
  temporary = path.with_name(f".{uuid.uuid4().hex}")
  try:
    make(temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
