"""A run's tokenizer as the files that `transformers.AutoTokenizer` reads."""

import json
import pathlib
import shutil
from typing import Any

from tpr_jax.config import write_json
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data.tokenizer import END, MASK, PAD, START, Tokenizer

# CLIP's vocabulary, where no file of it is at hand.
HUB_ID = "openai/clip-vit-base-patch16"
_CLIP_FILES = ("vocab.json", "merges.txt", "tokenizer.json")


def write(tokenizer: Tokenizer, folder: pathlib.Path, length: int) -> str:
  """Writes the files of `tokenizer` for texts of `length` tokens into `folder`.

  Returns:
    "clip" (CLIP's vocabulary), "json" (tokenizer.json of another one), or "none":
    instant-clip-tokenizer keeps CLIP's vocabulary in its code and gives no file.
  """
  kind, _, place = tokenizer.name.partition(":")
  if kind == "instant":
    return "none"
  if kind in ("people", "json"):
    if kind == "json":
      shutil.copy(pathlib.Path(place).expanduser() / "tokenizer.json", folder)
    else:
      people().save(str(folder / "tokenizer.json"))
    special = dict(bos_token=START, eos_token=END, pad_token=PAD, mask_token=MASK)
    _config(
      folder, length, "PreTrainedTokenizerFast", split_special_tokens=True, **special
    )
    return "json"
  if kind == "merges":
    tokenizers.write_clip_files(place, folder)
  else:
    source = tokenizers.clip_folder(place)
    for name in _CLIP_FILES:
      if (source / name).is_file():
        shutil.copy(source / name, folder)
  special = dict(bos_token=START, eos_token=END, pad_token=END, unk_token=END)
  _config(folder, length, "CLIPTokenizer", **special)
  return "clip"


def _config(folder: pathlib.Path, length: int, kind: str, **more: Any) -> None:
  write_json(
    folder / "tokenizer_config.json",
    dict(
      tokenizer_class=kind,
      model_max_length=length,
      padding_side="right",
      truncation_side="right",
      clean_up_tokenization_spaces=False,
      **more,
    ),
  )


def people() -> Any:
  """The built-in vocabulary as a `tokenizers.Tokenizer` with the same ids.

  White space and case are handled as in `data.tokenizer.clean`; ftfy and html entities,
  which matter for text that is no plain ASCII, the library cannot express.
  """
  from tokenizers import AddedToken, Regex, models, normalizers, processors
  from tokenizers import Tokenizer as Backend

  words = json.loads(tokenizers.PEOPLE.read_text("utf-8"))["merges"]
  merges = [tuple(merge.split(" ")) for merge in words]
  base, size = tokenizers.byte_level(merges)
  ids = {PAD: 0, MASK: size + 1, START: size + 2, END: size + 3}
  ids |= {token: i + 1 for token, i in base.get_vocab().items()}
  made = Backend(models.BPE(ids, merges))
  made.normalizer = normalizers.Sequence(
    [
      normalizers.Replace(Regex(r"\s+"), " "),
      normalizers.Strip(),
      normalizers.Lowercase(),
    ]
  )
  made.pre_tokenizer = base.pre_tokenizer
  made.add_special_tokens(
    [AddedToken(token, normalized=False) for token in (PAD, MASK, START, END)]
  )
  made.post_processor = processors.TemplateProcessing(
    single=f"{START} $A {END}",
    special_tokens=[(START, ids[START]), (END, ids[END])],
  )
  return made
