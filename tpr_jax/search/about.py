"""index.json: of which folder and by which model an index is."""

import pathlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from tpr_jax import config as configs
from tpr_jax.search.encoder import Encoder
from tpr_jax.search.problems import SearchError

FILE, LOCK = "index.json", ".index.lock"
# Of the table and of this file: an index of whole pictures, and of people in frames.
FORMAT, FORMAT_OF_PEOPLE = 1, 2
_AGAIN = "An index is of one model: give another folder with --index=DIR"


def read(index: pathlib.Path) -> dict[str, Any] | None:
  """What index.json says; None: there is no index yet.

  Raises:
    SearchError: the folder holds something else, or an index of another format.
  """
  path = index / FILE
  if not path.is_file():
    strange = sorted(p.name for p in index.iterdir()) if index.is_dir() else []
    strange = [name for name in strange if name not in (LOCK, f"{path.stem}.tmp")]
    if strange:
      raise SearchError(
        f"--index={index} holds {', '.join(strange[:5])} and no {FILE}: it is no index;"
        " give another folder"
      )
    return None
  try:
    found = configs.read_json(path)
  except ValueError as error:
    raise SearchError(f"{path} is not valid JSON: {error}") from error
  if found.get("format") not in (FORMAT, FORMAT_OF_PEOPLE):
    raise SearchError(
      f"{path}: found format {found.get('format')!r}, expected {FORMAT} or"
      f" {FORMAT_OF_PEOPLE}: it was written by tpr_jax"
      f" {found.get('version', 'of an unknown version')}; index again"
    )
  return found


def make(
  images: pathlib.Path,
  identity: Mapping[str, Any],
  encoder: Encoder,
  detector: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The content of a new index.json. identity: of the model; detector: its own."""
  found = dict(
    format=FORMAT if detector is None else FORMAT_OF_PEOPLE,
    version=metadata.version("tpr_jax"),
    images=str(images.resolve()),
    model=dict(identity),
    encoder=encoder.about(),
  )
  if detector is not None:
    found["detector"] = dict(detector)
  return configs.plain(found)


def write(index: pathlib.Path, found: Mapping[str, Any]) -> None:
  configs.write_json(index / FILE, found)


def check_weights(
  index: pathlib.Path, found: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
  """Raises SearchError where a model is not the index's own, by its weights."""
  own, given = found["model"], configs.plain(dict(identity))
  if own["digest"] == given["digest"] and own["load"] == given["load"]:
    return
  if own["digest"] == given["digest"]:
    changed = "; ".join(configs.differences(own["load"], given["load"]))
    raise SearchError(
      f"{index} was made by the same weights loaded otherwise (there -> given):"
      f" {changed}. {_AGAIN}"
    )
  hub = "hub:"  # what weights_id says of a place that is neither folder nor file
  if given["digest"].startswith(hub) and not own["digest"].startswith(hub):
    raise SearchError(
      f"{index} was made by {_named(own)}, and there is no {given['place']}: say with"
      " --run=PLACE where that model is now"
    )
  raise SearchError(
    f"{index} was made by {_named(own)}; {_named(given)} holds other weights, whose"
    f" rows mean something else. {_AGAIN}"
  )


def check_encoder(
  index: pathlib.Path, found: Mapping[str, Any], encoder: Encoder
) -> None:
  """Raises SearchError where pictures or texts are brought to it in another way."""
  changed = configs.differences(found["encoder"], configs.plain(encoder.about()))
  if changed:
    raise SearchError(
      f"{index} was made with another preprocessing (there -> now):"
      f" {'; '.join(changed)}. {_AGAIN}"
    )


def check_detector(
  index: pathlib.Path, found: Mapping[str, Any], given: Mapping[str, Any] | None
) -> None:
  """Raises SearchError where people would be cut out in another way, or not at all.

  Args:
    given: identity of the detector that is asked for; None: none is.
  """
  own = found.get("detector")
  if own is None and given is None:
    return
  again = _AGAIN.replace("model", "detector")
  if own is None:
    raise SearchError(
      f"{index} is of whole pictures, made without --detect. An index is of pictures or"
      " of people in frames: give another folder with --index=DIR"
    )
  if given is None:
    raise SearchError(
      f"{index} is of people in frames, whom {_named(own)} found: give it again,"
      f" --detect={own['place']}"
    )
  given = configs.plain(dict(given))
  if own["digest"] != given["digest"]:
    raise SearchError(
      f"{index} has people whom {_named(own)} found; {_named(given)} holds other"
      f" weights, which would find others. {again}"
    )
  if own["settings"] != given["settings"]:
    changed = "; ".join(configs.differences(own["settings"], given["settings"]))
    raise SearchError(
      f"{index} was made by the same detector with other settings (--detect_...; there"
      f" -> given): {changed}. {again}"
    )


def _named(model: Mapping[str, Any]) -> str:
  step = "" if model.get("step") is None else f", step {model['step']:,}"
  return f"{model['place']} (weights {model['digest'][:12]}{step})"
