"""Where a published set lies on disk, and what to say where it does not."""

import contextlib
import dataclasses
import os
import pathlib

from tpr_jax.data.record import DatasetError

_RENDERED_COMMAND = "python -m tpr_jax.main --config=configs/cfam.py"
SIGNED = (
  "the authors give it out for research after a signed release\nagreement. {paper};\n"
  "terms and form: {request}"
)
PUBLIC = "from its authors, on their terms.\n{paper};\ntheir page: {request}"


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where one published set lies on disk and how it is obtained.

  Attributes:
    name: its name in the SOURCES table.
    folder: sub-folder of the data root; also how the authors write the set's name.
    annotations: accepted names of the annotation file; a pattern such as "*.json" is
      allowed. Exactly one file may match, unless the user chooses (`find_all`: or
      several).
    images: sub-folder that the paths in the JSON start from; "" is `folder` itself.
    example: one path as the JSON has it, for the tree shown to people.
    paper: the publication that released it.
    request: official page where the authors' terms and form are found.
    image_key: the JSON key of the image path.
    in_name: regex; its named groups in the name of an image go to `truth`.
    obtained: how one gets the set, SIGNED or PUBLIC.
    tree: the lines of the tree shown to people, where one JSON file and the pictures
      do not tell it.
  """

  name: str
  folder: str
  annotations: tuple[str, ...]
  images: str
  example: str
  paper: str
  request: str
  image_key: str = "file_path"
  in_name: str = ""
  obtained: str = SIGNED
  tree: tuple[str, ...] = ()


def find_annotations(
  layout: Layout, root: str | os.PathLike | None, chosen: str | None
) -> pathlib.Path:
  """The one annotation file of a set; DatasetError says what to do if there is none."""
  return only_one(layout, root, find_all(layout, root, chosen))


def find_all(
  layout: Layout, root: str | os.PathLike | None, chosen: str | None
) -> list[pathlib.Path]:
  """The annotation files of a set, sorted, one or more.

  chosen: a name or a pattern below the set's folder, instead of the layout's own.
  Raises DatasetError, which says what to do, where there is none.
  """
  if root is None or not os.fspath(root):
    raise missing(layout, "DATA_ROOT", "no data root was given")
  folder = pathlib.Path(root, layout.folder)
  if not folder.is_dir():
    raise missing(layout, root, f"no folder {folder}")
  if chosen and (folder / chosen).is_file():  # a name may hold the marks of a pattern
    return [folder / chosen]
  names = (chosen,) if chosen else layout.annotations
  with contextlib.suppress(ValueError, NotImplementedError):  # not a pattern
    named = {path for name in names for path in folder.glob(name)}
    if found := sorted(filter(visible_file, named)):
      return found
  wanted = " or ".join(str(folder / name) for name in names)
  asked = " (asked for by annotations=)" if chosen else ""
  raise missing(layout, root, f"no file {wanted}{asked}")


def only_one(
  layout: Layout, root: str | os.PathLike, found: list[pathlib.Path]
) -> pathlib.Path:
  """The file that `find_all` found; DatasetError where it found several."""
  if len(found) > 1:
    folder = pathlib.Path(root, layout.folder)
    shown = ", ".join(path.name for path in found[:8])
    raise DatasetError(
      f"{layout.name}: {folder} holds {len(found)} annotation files: "
      f"{shown}{', ...' if len(found) > 8 else ''}. Choose one with the option "
      f"annotations={found[0].relative_to(folder).as_posix()}"
    )
  return found[0]


def visible_file(path: pathlib.Path) -> bool:
  """A file, and not one of the ._* that archives made on macOS unpack to."""
  return path.is_file() and not path.name.startswith(".")


def missing(layout: Layout, root: str | os.PathLike, reason: str) -> DatasetError:
  """The one message for a set that is not there: path, layout, source, way out."""
  at = pathlib.Path(root)
  lines = [f"{layout.name} is not there: {reason}", ""]
  if at.name == layout.folder:
    lines += [
      f"The data root is the folder ABOVE {layout.folder}/: try {at.parent}/",
      "",
    ]
  elif at.is_dir():
    here = sorted(p.name for p in at.iterdir())
    more = f" and {len(here) - 8} more" if len(here) > 8 else ""
    lines += [f"{at}/ holds: {', '.join(here[:8]) or 'nothing'}{more}", ""]
  obtained = layout.obtained.format(paper=layout.paper, request=layout.request)
  lines += [
    "Expected on disk:",
    f"  {at}/",
    f"    {layout.folder}/",
    *(f"      {line}" for line in layout.tree or _tree(layout)),
    "",
    f"How it is obtained: {obtained}",
    "Then say where it is: --config.data.root=DIR",
    "",
    "To run without it, on rendered people:",
    f"  {_RENDERED_COMMAND}",
  ]
  return DatasetError("\n".join(lines))


def _tree(layout: Layout) -> tuple[str, ...]:
  """One JSON file and the pictures, in the set's folder."""
  names = " or ".join(layout.annotations).replace("*.json", "annotations.json")
  free = "   (one JSON file, any name)" if "*.json" in layout.annotations else ""
  below = f"{layout.images}/" if layout.images else ""
  return f"{names}{free}", f"{below}{layout.example}   and the other images"
