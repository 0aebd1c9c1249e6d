"""The adapters of a run by themselves: as our own folder, or in PEFT's layout."""

import pathlib
import re

from safetensors.numpy import save_file

from tpr_jax import adapter_files
from tpr_jax import config as configs
from tpr_jax.config import write_json
from tpr_jax.convert import peft
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import tree
from tpr_jax.export.problems import ExportError
from tpr_jax.models import adapters
from tpr_jax.run_weights import read

FORMATS = ("adapters", "peft")
_CARD = """---
library_name: {library}
tags:
- text-based-person-retrieval
license: other
license_name: see-below
---
# {name}: adapters

{detail}. Written by tpr_jax; what they are loaded onto is {base}.

{how}
{use}
{licence}"""
_HOW = dict(
  adapters="""With tpr_jax: `tpr_jax.load("FOLDER")`, with `base=PLACE` where the base
has moved; a new run goes on from them with the same `--config.model.init_*` and
`--config.model.init_adapters=FOLDER`.
""",
  peft="""With PEFT: `PeftModel.from_pretrained(base, "FOLDER")` on the transformers
model of the base{parts}. With tpr_jax: a run with the same base, the same rules in
`model.adapters` and `--config.model.init_adapters=FOLDER`.
""",
)


def write(run: pathlib.Path, folder: pathlib.Path, format: str) -> list[str]:
  """Writes the files; what to say of them, as lines.

  Raises:
    ExportError: a run without adapters, or what PEFT's files cannot hold.
  """
  source = read(run, merge=False)
  if not source.adapters:
    raise ExportError(
      f"{run} has no adapters (model.adapters): export it with --format=huggingface"
    )
  if format == "adapters":
    return adapter_files.write(source, run, folder)
  return _peft(source, run, folder)


def card(run: pathlib.Path, format: str, **more: str) -> str:
  """The model card; `more`: use and licence."""
  source = read(run, merge=False)
  place = configs.read_json(run / "run.json").get("weights", {}).get("place", "")
  cross = "model" in source.settings
  parts = ': SwinModel for "FOLDER/image", BertModel for "FOLDER/text"' if cross else ""
  return _CARD.format(
    library="peft" if format == "peft" else "tpr_jax",
    name=configs.read_json(run / "config.json")["name"],
    detail=source.detail,
    base=pathlib.Path(place).name or "random weights",
    how=_HOW[format].format(parts=parts),
    **more,
  )


def _peft(source: Source, run: pathlib.Path, folder: pathlib.Path) -> list[str]:
  config = configs.load(run / "config.json")
  fixed = adapter_files.frozen(config, source.adapters, source.weights)
  beside = [
    name
    for name in source.weights
    if re.match("(visual|text)/", name)
    and name not in fixed
    and adapters.of_leaf(name) is None
  ]
  if beside:
    raise ExportError(
      f"{run} has trained {len(beside)} leaves of its towers beside adapters, such as"
      f" {beside[0]}, for which PEFT's files have no place: export it merged"
      " (--format=huggingface) or as our own (--format=adapters), or train with"
      " optim.freeze=('^(visual|text)/',)"
    )
  chosen = adapters.adapted(source.adapters, tree.nested(source.weights))
  base = configs.read_json(run / "run.json").get("weights", {}).get("place", "")
  parts = [("", ("visual/", "text/"), peft.clip_names)]  # heads stay here
  if "model" in source.settings:
    parts = [("image", "visual/", peft.swin_names), ("text", "text/", peft.bert_names)]
  lines = []
  for part, start, names in parts:
    own = {layer: spec for layer, spec in chosen.items() if layer.startswith(start)}
    if not own:
      continue
    try:
      state, about = peft.write(own, source.weights, names, base)
    except ConvertError as error:
      raise ExportError(str(error)) from error
    place = folder / part
    place.mkdir(exist_ok=True)
    save_file(state, place / peft.WEIGHTS, metadata={"format": "pt"})
    write_json(place / peft.CONFIG, about)
    kind = "DoRA" if about["use_dora"] else "LoRA"
    lines.append(f"{part or '.'}/: {kind} of {len(about['target_modules'])} modules")
  return lines
