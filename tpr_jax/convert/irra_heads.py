"""The heads of IRRA's checkpoints: identity classifier and masked language head.

Names of the released code (arXiv:2303.12501): `classifier`, `cross_attn`,
`cross_modal_transformer`, `ln_pre_t`, `ln_pre_i`, `ln_post`, `mlm_head`. IRRA's
relatives have some of them; whatever else they have is left to the report. Of our own
runs the masked language head is taken: with it, fine-tuning goes on where pre-training
ended (GA-DMS). Their classifier is of other people.
"""

import re
from collections.abc import Mapping

import numpy as np

from tpr_jax.convert import layouts
from tpr_jax.convert.source import ConvertError, Source

HEADS = ("identity_shared", "mlm")  # of our model, that these files may hold
OWN = ("mlm",)  # that are taken from a run of ours
_MODULES = {
  "identity_shared/classifier": "classifier",
  "mlm/ln_text": "ln_pre_t",
  "mlm/ln_image": "ln_pre_i",
  "mlm/ln_post": "ln_post",
  "mlm/cross_attn/out": "cross_attn.out_proj",
  "mlm/head/dense": "mlm_head.dense",
  "mlm/head/ln": "mlm_head.ln",
  "mlm/head/words": "mlm_head.fc",
}
_ENDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_BLOCK = re.compile(r"mlm/blocks/(block_\d+/.+)")
_PROJECTION = re.compile(r"mlm/cross_attn/(q|kv)/(\w+)")


def file_name(ours: str, layout: str = "irra") -> str:
  """The leaf of the file that a leaf of our heads comes from.

  `cross_attn.in_proj_*` holds queries, keys and values: our `q` and `kv` both.
  """
  if layout == "tpr_jax":
    return ours
  if block := _BLOCK.fullmatch(ours):
    (name,) = layouts.file_names("openai", f"text/blocks/{block[1]}")
    return f"cross_modal_{name}"
  if projection := _PROJECTION.fullmatch(ours):
    return f"cross_attn.in_proj_{_ENDS[projection[2]]}"
  module, _, end = ours.rpartition("/")
  return f"{_MODULES[module]}.{_ENDS[end]}"


def from_file(ours: str, array: np.ndarray, layout: str = "irra") -> np.ndarray:
  """That leaf's array -> ours: kernels [in, out]."""
  if layout == "tpr_jax":
    return array
  if projection := _PROJECTION.fullmatch(ours):
    width = len(array) // 3
    array = array[:width] if projection[1] == "q" else array[width:]
  return np.array(array.T, order="C")


def heads(
  source: Source, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """(name -> array of the heads that the file has, lines on those that start anew).

  Args:
    source: an IRRA-family checkpoint, or a run of ours.
    shapes: name -> shape of every leaf of our model; only those of `HEADS` matter.

  Raises:
    ConvertError: a head is there in part only, or of another size. The classifier of
      other people than these is no mistake: it starts anew.
  """
  found, anew, layout = {}, [], source.layout
  for head in HEADS if layout == "irra" else OWN:
    wanted = {n: shape for n, shape in shapes.items() if n.startswith(f"{head}/")}
    there = {n for n in wanted if file_name(n, layout) in source.weights}
    if not wanted:
      continue
    if not there:
      anew.append(f"{head}: not in the file")
      continue
    if missing := sorted(file_name(n, layout) for n in set(wanted) - there):
      raise ConvertError(
        f"{source.place} has the head {head!r} without {', '.join(missing[:4])}: is it"
        " of another kind? Leave its loss out, or start from the towers of another file"
      )
    leaves = {
      n: from_file(n, source.weights[file_name(n, layout)], layout) for n in wanted
    }
    differ = [n for n in wanted if leaves[n].shape != wanted[n]]
    if differ and head == "identity_shared":
      theirs, ours = (x["identity_shared/classifier/bias"] for x in (leaves, wanted))
      anew.append(f"{head}: of {len(theirs):,} people, not {ours[0]:,}")
    elif differ:
      raise ConvertError(
        f"{source.place}: {file_name(differ[0], layout)} makes {differ[0]} of shape"
        f" {leaves[differ[0]].shape}, the model has {wanted[differ[0]]}: set the fields"
        " mlm_layers and mlm_heads, and the text length, of the model to the file's"
      )
    else:
      found |= leaves
  return found, anew
