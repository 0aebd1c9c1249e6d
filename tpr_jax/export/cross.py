"""The towers of a Swin + BERT run as two folders that transformers loads.

  image/   SwinModel, with its image processor
  text/    BertForMaskedLM or BertModel, all layers, with vocab.txt

What has no class in transformers comes along in cross.safetensors, under our names: the
projections of both features, the matching head, the temperature, and the attention of
the fusion layers to the image.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tpr_jax.config import write_json
from tpr_jax.convert import bert, files, swin
from tpr_jax.convert.settings import FILTERS
from tpr_jax.convert.source import ConvertError, Source
from tpr_jax.core import tree
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.export.problems import ExportError

OURS = "cross.safetensors"
_CROSS = re.compile(r"/(cross_attn|ln_cross)/")


def write(source: Source, folder: pathlib.Path) -> list[str]:
  """Writes both folders and reads them back, bit for bit; what to say of it, as lines.

  Args:
    source: a run of Swin + BERT (run_weights.read).

  Raises:
    ExportError: a tower that transformers has no class for.
  """
  params, fields = tree.nested(source.weights), source.settings["model"]
  image, words = folder / "image", folder / "text"
  try:
    _image(params["visual"], fields, source.settings["filter"], image)
  except ConvertError as error:
    raise ExportError(f"{source.place}: {error}") from error
  _text(params, fields, tokenizers.build(source.tokenizer), words)
  rest = {k: v for k, v in source.weights.items() if _is_rest(k)}
  save_file({k: np.ascontiguousarray(v) for k, v in rest.items()}, folder / OURS)
  return [
    f"image/: SwinModel, {tree.count(params['visual']):,} parameters",
    f"text/: {'BertForMaskedLM' if 'words' in params else 'BertModel'}",
    f"{OURS}: {len(rest)} leaves that transformers has no place for",
  ]


def _is_rest(name: str) -> bool:
  part = name.split("/")[0]
  return part not in ("visual", "text", "words") or bool(_CROSS.search(name))


def _image(params, fields: Mapping[str, Any], filter: str, folder: pathlib.Path):
  tower = swin.tower_fields(fields)
  state, config = swin.to_huggingface(params, tower)
  folder.mkdir()
  save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
  write_json(folder / "config.json", config)
  height, width = fields["image_size"]
  write_json(
    folder / "preprocessor_config.json",
    dict(
      image_processor_type="ViTImageProcessor",
      do_resize=True,
      size=dict(height=height, width=width),
      resample=FILTERS.index(filter),
      do_rescale=True,
      rescale_factor=1 / 255,
      do_normalize=True,
      image_mean=list(fields["pixel_mean"]),
      image_std=list(fields["pixel_std"]),
    ),
  )
  found = swin.from_huggingface(files.weights(folder)[0], tower, interpolate=False)
  _compare(found, params)


def _text(params, fields: Mapping[str, Any], words: Any, folder: pathlib.Path):
  state, config = bert.to_huggingface(
    params, heads=fields["text_heads"], epsilon=fields["text_epsilon"]
  )
  folder.mkdir()
  save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
  write_json(folder / "config.json", config)
  (folder / "vocab.txt").write_text("\n".join(words.vocabulary) + "\n", "utf-8")
  write_json(
    folder / "tokenizer_config.json",
    dict(
      tokenizer_class="BertTokenizer",
      do_lower_case=True,
      model_max_length=fields["text_length"],
    ),
  )
  kept = {k: params[k] for k in ("text", "words") if k in params}
  found, _ = bert.from_huggingface(files.weights(folder)[0], tree.shapes(kept))
  flat = {k: v for k, v in tree.flat(kept).items() if not _CROSS.search(k)}
  _compare(found, tree.nested(flat))


def _compare(found: Any, expected: Any) -> None:
  found, expected = tree.flat(found), tree.flat(expected)
  for name, value in expected.items():
    if name not in found or not np.array_equal(found[name], value):
      raise ExportError(f"{name} is not what was written: a full disk, or a bug")


CARD = """---
library_name: transformers
tags:
- text-based-person-retrieval
license: other
license_name: see-below
---
# {name}: text-based person retrieval with Swin and BERT

{detail}. Written by tpr_jax.

```python
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

image = AutoModel.from_pretrained("FOLDER/image")  # SwinModel
text = AutoModel.from_pretrained("FOLDER/text")  # BertModel
processor = AutoImageProcessor.from_pretrained("FOLDER/image")
tokenizer = AutoTokenizer.from_pretrained("FOLDER/text")
```

These are the towers by themselves. Of the BERT the first {fusion} layers read a text
alone; in the model the others also look at the image, by weights that are in
{ours} under tpr_jax's names, with the projections, the matching head and the
temperature. A new run starts from the towers with
`--config.model.init_image=FOLDER/image --config.model.init_text=FOLDER/text`, from all
of the run with `--config.model.init_from=RUN`.

{use}
{licence}"""
