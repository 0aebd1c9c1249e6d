"""Pages out of the templates in this folder, without any outside part."""

import base64
import importlib.resources
import os
import pathlib
import re
from typing import Any

import jinja2


def write(path: pathlib.Path, template: str, **values: Any) -> None:
  """Renders `template` ("page.html") to `path`, whole or not at all."""
  put(path, render(template, **values))


def render(template: str, **values: Any) -> str:
  """`template` ("page.html") with these values.

  Templates also know `uri`: PNG bytes -> "data:image/png;base64,...".
  """
  return _environment().get_template(template).render(uri=_uri, **values)


def put(path: pathlib.Path, page: str) -> None:
  """Writes a page, whole or not at all."""
  partial = path.with_suffix(".tmp")
  partial.write_text(page, encoding="utf-8")
  os.replace(partial, path)


def file_name(name: str) -> str:
  """The name of an evaluation as part of a file's name."""
  return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _uri(png: bytes) -> str:
  return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _environment() -> jinja2.Environment:
  folder = importlib.resources.files("tpr_jax.report")
  # Captions and folder names are other people's text: always escaped.
  return jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
