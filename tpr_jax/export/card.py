"""The model card of an export: README.md, from the run's own files."""

import pathlib
from collections.abc import Mapping
from typing import Any

from tpr_jax import config as configs
from tpr_jax.convert.source import Source
from tpr_jax.core import tree
from tpr_jax.export import loading
from tpr_jax.pretrained import Pretrained, inverse_temperature
from tpr_jax.report import tables
from tpr_jax.run_folder import versions

_FRONT = """---
library_name: {library}
tags:
- text-based-person-retrieval
- clip
license: other
license_name: see-below
---
"""
_USE = """## Acceptable use

The model searches for people in pictures by what they look like. It is for research on
retrieval, for measuring how well and how unfairly such systems work, and for searching
pictures that one has the right to search. It is **not** for identifying or tracking
people without their knowledge and a lawful ground, nor for deciding anything about a
person, and its output is no evidence: a high score means that a picture resembles a
sentence. It has the habits of its captions, stereotypes included.
"""


def render(
  model: Pretrained, run: pathlib.Path, format: str, notes: Mapping[str, Any]
) -> str:
  """The card of one export, as Markdown.

  Args:
    run: the run's folder.
    format: "huggingface", "openclip" or "stablehlo".
    notes: what the format's `write` returned.
  """
  config = configs.read_json(run / "config.json")
  record = configs.read_json(run / "run.json")
  results = configs.read_json(run / "results.json")
  library = dict(huggingface="transformers", openclip="open_clip", stablehlo="jax")
  return "\n".join(
    [
      _FRONT.format(library=library[format]),
      f"# {config['name']}: text-based person retrieval\n",
      "Two encoders, one for pictures of people and one for sentences about them, whose"
      " unit rows are compared by their inner product. Trained and exported with"
      " tpr_jax.\n",
      _facts(model, config, record),
      _scores(results),
      f"## Loading\n\n{loading.text(model, format, notes)}",
      _preprocessing(model),
      _USE,
      _licence(config, record),
    ]
  )


def render_cross(source: Source, run: pathlib.Path, text: str, **more: Any) -> str:
  """The card of a Swin + BERT run: `text` with its name, licence and `more`."""
  name = configs.read_json(run / "config.json")["name"]
  return text.format(name=name, detail=source.detail, **terms(run), **more)


def terms(run: pathlib.Path) -> dict[str, str]:
  """{"use", "licence"} of any card of a run."""
  config = configs.read_json(run / "config.json")
  return dict(use=_USE, licence=_licence(config, configs.read_json(run / "run.json")))


def public(place: str) -> str:
  """A hub id as it is; of a path the last part, for cards are published."""
  path = pathlib.Path(place).expanduser()
  is_path = path.is_absolute() or path.exists() or place.startswith((".", "~"))
  return path.name if is_path else place


def _facts(
  model: Pretrained, config: Mapping[str, Any], record: Mapping[str, Any]
) -> str:
  f, data = model.fields, config["data"]
  start = record.get("weights", {}).get("place")
  weights = [(k, v) for k, v in config["losses"].items() if isinstance(v, int | float)]
  losses = [f"{name} x {w:g}" for name, w in weights if w]
  height, width = model.image_size
  made, now = record.get("versions", {}), versions()
  lines = {
    "Config": config["name"],
    "Data": f"{data['name']}, split {data['train']}",
    "Initial weights": public(start) if start else "random",
    "Losses": ", ".join(losses),
    "Checkpoint": model.detail,
    "Picture": f"{height} x {width} pixels (height x width),"
    f" patches of {f['patch'][0]} x {f['patch'][1]}",
    "Text": f"{model.text_length} tokens at most, vocabulary of"
    f" {model.tokenizer.vocab_size:,}",
    "Image tower": _tower(f, "vision"),
    "Text tower": _tower(f, "text"),
    "Output": f"{model.dim} dimensions",
    "Parameters": f"{tree.count(model.params):,} (heads of the training left out)",
    "1 / temperature": inverse_temperature(model.logit_scale),
    "Trained with": ", ".join(f"{k} {v}" for k, v in made.items()) or "unknown",
    "Exported with": ", ".join(f"{k} {now[k]}" for k in ("python", "jax", "numpy")),
  }
  rows = "\n".join(f"| {name} | {value} |" for name, value in lines.items())
  return f"| | |\n|---|---|\n{rows}\n"


def _tower(fields: Mapping[str, Any], name: str) -> str:
  width, layers, heads = (fields[f"{name}_{k}"] for k in ("width", "layers", "heads"))
  return f"{layers} layers of width {width}, {heads} heads, {fields['activation']}"


def _scores(results: Mapping[str, Any]) -> str:
  if not results:
    return "## Scores\n\nThe run has not been evaluated (no results.json).\n"
  table = tables.results_table(results)
  return (
    "## Scores\n\nText to image, in percent; `chance` is the Rank-1 of a random order."
    f" Checkpoint: step {results['selected_step']}, {results['selection']}.\n\n"
    f"```\n{table}\n```\n"
  )


def _preprocessing(model: Pretrained) -> str:
  height, width = model.image_size
  mean, std = (
    ", ".join(f"{v:.8g}" for v in model.fields[k]) for k in ("pixel_mean", "pixel_std")
  )
  return (
    "## Preprocessing\n\n"
    f"Pictures: RGB, squashed to {height} x {width} (height x width; the aspect ratio"
    f" is not kept) by Pillow's {model.filter} filter, divided by 255, minus [{mean}],"
    f" divided by [{std}] (R, G, B).\n\n"
    "Texts: ftfy, html entities, white space collapsed, lower case; then the tokenizer;"
    f" a start token ({model.tokenizer.start_id}) before and an end token"
    f" ({model.tokenizer.end_id}) behind; cut to {model.text_length} tokens, the end"
    " token kept. What follows the end token does not matter.\n"
  )


def _licence(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
  start = record.get("weights", {}).get("place")
  origin = f" and of the weights it started from ({public(start)})" if start else ""
  rendered = config["data"]["name"] == "rendered"
  data = (
    "The rendered people are made by tpr_jax's own code and fall under its licence"
    " (Apache-2.0)."
    if rendered
    else "Real person datasets are usually for research only: look at their terms."
  )
  return (
    "## Licence\n\nThese weights inherit the terms of the data they were trained on"
    f" ({config['data']['name']}){origin}. {data} The code of tpr_jax is Apache-2.0.\n"
  )
