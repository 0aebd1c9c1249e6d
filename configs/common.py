"""Fragments and argument parsing shared by the configs."""

import ast
import difflib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from tpr_jax.data.damage import MAX_BROKEN
from tpr_jax.models import cross_variants
from tpr_jax.models.variants import OF_WEIGHTS, VARIANTS


def nearest(word: str, known: Sequence[str]) -> str:
  """' Did you mean ...?' where something is close, and always the whole list."""
  close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
  guess = f" Did you mean {close[0]!r}?" if close else ""
  return f"{guess} Known: {', '.join(known)}."


def parse(arg: str | None, names: Sequence[str], **options: Any) -> SimpleNamespace:
  """Reads what follows the colon of `--config=FILE.py:NAME,option=value,...`.

  Args:
    arg: that text, or None.
    names: what the first word may be; the first of them is the default.
    options: option name -> default; a value given is converted to the default's type.

  Returns:
    Namespace with `name` and every option.

  Raises:
    ValueError: an unknown name or option, or a value of the wrong type.
  """
  found = dict(options, name=names[0])
  for position, part in enumerate(filter(None, (arg or "").split(","))):
    key, equals, text = (piece.strip() for piece in part.partition("="))
    if not equals:
      if position or key not in names:
        raise ValueError(f"config: unknown name {key!r}.{nearest(key, names)}")
      found["name"] = key
      continue
    if key not in options:
      raise ValueError(f"config: unknown option {key!r}.{nearest(key, tuple(options))}")
    found[key] = _convert(key, text, options[key])
  return SimpleNamespace(**found)


def _convert(key: str, text: str, default: Any) -> Any:
  if isinstance(default, str):
    return text
  try:
    value = ast.literal_eval(text.capitalize() if text in ("true", "false") else text)
  except (ValueError, SyntaxError):
    value = text
  if isinstance(default, float) and isinstance(value, int):
    value = float(value)
  if type(value) is not type(default):
    kind = type(default).__name__
    raise ValueError(f"config: {key}={text}: expected a {kind}, for example {default}")
  return value


def sweep(
  name: str,
  rows: Sequence[tuple[str, str, Sequence[str]]],
  scores: Sequence[str],
  **fields: Any,
) -> ConfigDict:
  """A list of runs for `--mode=sweep`: every row with every seed.

  Args:
    name: names the folder, runs/NAME-sweep.
    rows: (row of the table, `--config` value, overrides), in the order of the table;
      an override is "train.steps=500", without `--config.`; "{seed}" in it is the run's
      seed, as in "model.init_from=runs/first-sweep/CFAM-seed{seed}".
    scores: columns, "EVAL/METRIC"; EVAL is an entry of `evals` in every row's config,
      METRIC one of retrieval or of phrases found ("pointing"). The first one is drawn
      and compared.
    fields: those below.
  """
  c = ConfigDict(dict(name=name, rows=tuple(rows), scores=tuple(scores)))
  c.seeds = (0, 1, 2)
  c.base = ()  # overrides of every run; a row's own come after them and win
  c.baseline = ""  # row that the others are compared to, seed by seed; "": none
  c.jobs = 1  # runs at once; all see the same accelerators and the same environment
  c.update(fields)
  return c


def model(variant: str) -> ConfigDict:
  """Every size of a variant (models/variants.py) as a field; dtype "auto": bfloat16
  compute on accelerators, float32 on CPU; parameters are float32 always. residual is
  the dtype of what blocks add to: "float32", as PyTorch's autocast has it, or "same",
  that of dtype, for less memory and traffic.

  init_from: weights of the towers: a run's folder, or published ones
  (tpr_jax/convert/files.py says which kinds of place); init_allow: regexes of leaves of
  theirs that may be left unused. What the weights were trained with (activation, pixel
  mean, ...) is theirs unless given.

  adapters: pairs (regex on a dense layer's name, options), the first that matches: few
  weights beside frozen ones (tpr_jax/models/adapters.py); init_adapters: a folder of
  them, ours or PEFT's (tpr_jax/adapter_files.py), put on what init_from gave;
  init_random: frozen weights that no file sets are no mistake.

  A variant of Swin + BERT has its own fields (below)."""
  if variant in cross_variants.VARIANTS:
    return _cross_model(variant)
  if variant not in VARIANTS:
    known = (*VARIANTS, *cross_variants.VARIANTS)
    raise ValueError(f"config: unknown variant {variant!r}.{nearest(variant, known)}")
  fields = dict(VARIANTS[variant], dtype="auto")
  fields["stride"] = fields["patch"]
  for name in OF_WEIGHTS:
    fields[name] = placeholder(type(fields[name]))
  fields.update(init_from="", init_allow=(), init_random=False, init_adapters="")
  for elsewhere in ("text_length", "learn_scale", "initial_scale"):
    del fields[elsewhere]  # config.text.length, config.objective
  return ConfigDict(fields)


def _cross_model(variant: str) -> ConfigDict:
  """`model` of a Swin + BERT variant (models/cross_variants.py).

  init_image, init_text: weights of the two towers, published apart: a Swin and a BERT
  (tpr_jax/convert); init_interpolate: whether bias tables of another window may be
  interpolated."""
  fields = dict(cross_variants.VARIANTS[variant], variant=variant, dtype="auto")
  fields.update(init_from="", init_image="", init_text="", init_interpolate=True)
  fields.update(init_random=False, init_adapters="")
  for elsewhere in ("text_length", "initial_temperature"):
    del fields[elsewhere]  # config.text.length, config.objective.temperature
  if fields["window_last"] is None:
    fields["window_last"] = placeholder(int)
  return ConfigDict(fields)


def data(name: str, *, size: tuple[int, int], train: bool = True) -> ConfigDict:
  """Input of one dataset at `size`; `options` go to the dataset's own loader."""
  height, width = size
  augment = "|flip(0.5)|pad_crop(10)|erase(0.5)" if train else ""
  return ConfigDict(
    dict(
      name=name,
      root="",
      train="train",  # name of the split trained on
      val="val",  # "": val_share of the training identities are held out
      val_share=0.0,  # 0 with val="": no validation, the last checkpoint is reported
      val_seed=0,  # picks the identities held out; not the run's seed
      options=ConfigDict(),  # for the loader (tpr_jax/data/sources)
      val_options=ConfigDict(),  # the same, where validation differs from training
      # Folder of --mode=filter for this training split: its kept pairs alone are
      # trained on; identities are held out for validation before. "": all.
      filter="",
      image=f"resize({height},{width}){augment}",
      eval_image=f"resize({height},{width})",
      batch=64,  # global: over all devices and processes
      sampler="random",  # "random" captions, or "identity": P x instances
      instances=4,
      threads=2,
      workers=0,  # processes instead of threads, for slow decoders
      # RAM for pictures that were decoded and resized, for the next epochs: at most so
      # much, and never the last quarter of the machine's. 0: none are kept.
      cache_mb=16384,
      # Share of the training pictures that may be bad (unreadable, a caption is empty)
      # before the run stops; one always may unless it is 0; 1: never stop (damage.py).
      max_broken=MAX_BROKEN,
    )
  )


def loader_options(name: str) -> ConfigDict:
  """The options of one dataset's loader, each at its default (None where it has none).

  What they mean stands in the loader's docstring: tpr_jax/data/sources/NAME.py.
  """
  options = {
    "folder": dict(
      annotations=placeholder(str),
      images="",
      captions=placeholder(str),
      default_split="test",
    ),
    "lines": dict(
      annotations=placeholder(str),
      images="",
      captions=placeholder(str),
      default_split="train",
    ),
    "archive": dict(name=placeholder(str), captions="captions"),
    "webperson": dict(annotations=placeholder(str), images="images"),
    "luperson_mllm": dict(
      annotations=placeholder(str), images="images", spare="Td", seed=0
    ),
    "mals": dict(annotations=placeholder(str), images=""),
    "synth_pedes": dict(
      annotations=placeholder(str), images="", sample=0, seed=0, identity="record"
    ),
    "luperson_t": dict(
      annotations=placeholder(str), images="images", drop_last=100_000
    ),
    "sda": dict(annotations=placeholder(str), images="", identity="image"),
    "pedes_json": dict(
      name="cuhk",
      annotations=placeholder(str),
      images=placeholder(str),
      rule=placeholder(str),
    ),
    "shards": dict(name=placeholder(str)),
    "rendered": dict(
      seed=0,
      size="quick",
      identities=placeholder(int),
      views=placeholder(int),
      twins=placeholder(int),
      granularity=("fine", "coarse"),
      style="mixed",
      word_noise=0.0,
      pair_noise=0.0,
    ),
  }
  name = "rendered" if name.startswith("rendered_") else name
  return ConfigDict(
    options.get(name, dict(annotations=placeholder(str), captions="captions"))
  )


def dual_masking() -> ConfigDict:
  """GA-DMS's masks by the scores of words (tpr_jax/dual_masking.py), off.

  The defaults are those of `configs/ga_dms.py`, which says where the paper and its
  code differ from them."""
  c = ConfigDict()
  # "gass" (the paper's), "grad_eclip", "cosine", "random"; "none": no such masks.
  c.score = "none"
  c.score_layers = 8  # last blocks of the text tower that are asked
  c.score_scales = (1, 2)  # sizes of the pools over positions
  c.score_norm = "per_sample"  # where 0 and 1 lie: in a caption, or the "batch"
  c.score_rows = "all"  # positions that are pooled: "all", or "text" without padding
  # "same_step", or "previous_epoch": of a caption's last visit, kept in a table.
  c.score_refresh = "same_step"
  c.attn_denominator = "attention"  # its sum over words; "importance": the code's
  c.grad_target = "attention"  # attention output before its projection, or "state"
  c.gass_heads = 0  # of the watched blocks; 0: as they have
  # p = alpha sigmoid(sharpness (1 - s - gamma_noise)), and (s - gamma_info); alpha 0:
  # nothing is hidden.
  c.alpha_noise, c.gamma_noise = 0.2, 0.9
  c.alpha_info, c.gamma_info = 0.3, 0.1
  c.sharpness = 20.0
  # A word that is chosen becomes the "mask", or by "bert": text.mask_as_mask of them.
  c.corruption_noise, c.corruption_mtp = "mask", "bert"
  c.force_one = "mtp"  # masks the first word where none was: "mtp", "both", "none"
  c.sdm_grad_scale = 1.0  # the code's is 1 / number of devices
  return c


def evaluation(split: str, **options: Any) -> ConfigDict:
  """One entry of `config.evals`: a split, with the loader options it changes.

  `name` and `root` may name another dataset: cross-domain transfer. `group_by`: what
  the queries are also reported apart by, such as "source,length" (tpr_jax/groups.py).
  """
  entry = dict(name="", root="", split=split, group_by="", i2t=False, note="")
  entry.update({key: options.pop(key) for key in list(options) if key in entry})
  return ConfigDict(dict(entry, options=ConfigDict(options)))
