"""The part of a model card that says how to load each format."""

from collections.abc import Mapping
from typing import Any

from tpr_jax.export.stablehlo import PLATFORMS
from tpr_jax.export.tokenizer_files import HUB_ID
from tpr_jax.pretrained import Pretrained

_OURS = """With tpr_jax, whatever the format:

```python
import tpr_jax

model = tpr_jax.load("FOLDER"{tokenizer})
texts = model.encode_texts(["a woman in a red coat"])  # unit rows, numpy
images = model.encode_images(["1.jpg"])
print(texts @ images.T)
```
"""
_TRANSFORMERS = """```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("FOLDER").eval()
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
processor = AutoImageProcessor.from_pretrained("FOLDER")
text = tokenizer(["a woman in a red coat"], padding=True, truncation=True,
                 max_length={length}, return_tensors="pt")
image = processor(Image.open("1.jpg").convert("RGB"), return_tensors="pt")
with torch.inference_mode():
  out = model(**text, **image{interpolate})
print(out.text_embeds @ out.image_embeds.T)  # unit rows
```
"""
_OPENCLIP = """```python
import open_clip, torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
model.eval()
image = preprocess(Image.open("1.jpg").convert("RGB"))[None]
text = tokenizer(["a woman in a red coat"])
with torch.inference_mode():
  images = model.encode_image(image, normalize=True)
  texts = model.encode_text(text, normalize=True)
print(texts @ images.T)
```
"""
_STABLEHLO = """Any batch size; platforms {platforms}. Needs `jax`, `flatbuffers`
and `safetensors` (and a tokenizer for the ids):

```python
from jax import export
from safetensors.numpy import load_file

params = load_file("FOLDER/params.safetensors")
visual = {{k: v for k, v in params.items() if k.startswith("visual/")}}
words = {{k: v for k, v in params.items() if k.startswith("text/")}}
image_encoder = export.deserialize(open("FOLDER/image_encoder.bin", "rb").read())
text_encoder = export.deserialize(open("FOLDER/text_encoder.bin", "rb").read())
image_rows = image_encoder.call(visual, pictures)  # uint8 [b, {height}, {width}, 3]
text_rows = text_encoder.call(words, ids)  # int32 [b, {length}]
print(text_rows @ image_rows.T)  # of float32 unit rows [b, {dim}]
```

The encoders normalise the pixels. Wrap `.call` in `jax.jit` to compile it once for each
batch size.
"""


def text(model: Pretrained, format: str, notes: Mapping[str, Any]) -> str:
  """Markdown: code that loads the export, and what to know about it."""
  parts = {"huggingface": _transformers, "openclip": _openclip, "stablehlo": _stablehlo}
  own = ', tokenizer="..."' if _needs_spec(model, notes) else ""
  said = [parts[format](model, notes), _tokenizer(model, format, notes)]
  return "\n".join([*said, _OURS.format(tokenizer=own)])


def _needs_spec(model: Pretrained, notes: Mapping[str, Any]) -> bool:
  """Whether `tpr_jax.load` cannot know the tokenizer: no files, and not its default."""
  return notes["tokenizer"] == "none" and model.tokenizer.name != "instant"


def _transformers(model: Pretrained, notes: Mapping[str, Any]) -> str:
  side = notes["side"]
  code = _TRANSFORMERS.format(
    tokenizer=HUB_ID if notes["tokenizer"] == "none" else "FOLDER",
    length=model.text_length,
    interpolate=", interpolate_pos_encoding=True" if side else "",
  )
  if not side:
    return code
  return (
    f"{code}\n**`interpolate_pos_encoding=True` must be passed.** `CLIPModel` knows"
    f" square position tables alone; the {side} x {side} table in this folder is made"
    " so that its interpolation to this picture size gives the table of the training."
    " (`position_table.safetensors` holds that one for tpr_jax.)\n"
  )


def _openclip(model: Pretrained, notes: Mapping[str, Any]) -> str:
  return _OPENCLIP


def _stablehlo(model: Pretrained, notes: Mapping[str, Any]) -> str:
  height, width = model.image_size
  code = _STABLEHLO.format(
    platforms=", ".join(PLATFORMS),
    height=height,
    width=width,
    dim=model.dim,
    length=model.text_length,
  )
  return (
    f"{code}\nOn random input the encoders read back differ from the model by at most"
    f" {notes['difference']:.1e} in any entry of a unit row.\n"
  )


def _tokenizer(model: Pretrained, format: str, notes: Mapping[str, Any]) -> str:
  kind = notes["tokenizer"]
  if kind == "none":
    return (
      "The vocabulary is CLIP's. The tokenizer that the run used has no files to copy;"
      f" the one of `{HUB_ID}` on the Hugging Face hub gives the same ids.\n"
    )
  if kind == "clip":
    return "The tokenizer's files are CLIP's own and lie in this folder.\n"
  hub = (
    " A copy on the hub needs its own id in `text_cfg.hf_tokenizer_name`."
    if format == "openclip"
    else ""
  )
  return (
    "`tokenizer.json` gives the ids of the training for plain text; text with html"
    " entities or broken Unicode should go through `html.unescape` and `ftfy.fix_text`"
    f" first.{hub}\n"
  )
