"""Training programs of the configs, small, on any layout of eight virtual devices."""

import dataclasses
import functools
import re
import types
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import cfam, clip, ga_dms, irra, mra
from tests import tiny, tiny_cross
from tpr_jax import objectives, program
from tpr_jax.core import sharding, tree
from tpr_jax.data import views as data_views

ROWS, CLASSES, STEPS = 16, 8, 10
TOKENIZER = types.SimpleNamespace(
  vocab_size=tiny.VOCAB,
  mask_id=tiny.VOCAB - 3,
  start_id=tiny.VOCAB - 2,
  end_id=tiny.VOCAB - 1,
)
# Sizes that every axis can share: 4 heads, widths of 32. Drop-path needs two layers.
FIELDS = dict(
  tiny.FIELDS,
  **dict.fromkeys(("vision_width", "text_width", "joint_dim", "part_width"), 32),
  **{name: 4 for name in tiny.FIELDS if name.endswith("heads")},
)
FIELDS |= dict(part_queries=4, vision_layers=2)
DROP_PATH = 0.3

CROSS_FIELDS = dict(
  tiny_cross.FIELDS,
  **dict.fromkeys(("text_width", "joint_dim"), 32),
  vision_width=16,
  vision_heads=(4, 4),
  text_heads=4,
  projection_dropout=0.1,
)

# cuhk_pedes: Adam with L2 decay; rendered: Muon, Adam, decoupled decay, clipping.
FAMILIES = {
  "CFAM": (cfam, "cuhk_pedes"),
  "CFAM, from scratch": (cfam, "rendered"),
  "IRRA": (irra, "cuhk_pedes"),
  "IRRA, from scratch": (irra, "rendered"),
  "GA-DMS": (ga_dms, "mals"),
  "GA-DMS, code": (ga_dms, "mals,preset=code"),
  "GA-DMS, from scratch": (ga_dms, "rendered"),
  "MRA": (mra, "sda"),
  "MRA, fine-tuned": (mra, "cuhk_pedes"),
  "CLIP": (clip, "cuhk_pedes"),
  "CLIP, from scratch": (clip, "rendered"),
}
LAYOUTS = {
  "data 8": dict(data=8),
  "fsdp 8": dict(fsdp=8),
  "data 2 x fsdp 4": dict(data=2, fsdp=4),
  "data 4 x tensor 2": dict(data=4, tensor=2),
  "data 2 x tensor 4": dict(data=2, tensor=4),
  "fsdp 2 x tensor 4": dict(fsdp=2, tensor=4),
  "data 2 x fsdp 2 x tensor 2": dict(data=2, fsdp=2, tensor=2),
}
ONE = "1 device"


@dataclasses.dataclass(frozen=True)
class Run:
  """What ten steps left.

  Attributes:
    metrics: of each step: name -> float.
    start, first, last: the state before, after one step, after ten (numpy).
    flops: of one step on one device.
    text: the compiled program.
  """

  metrics: list[dict[str, float]]
  start: Any
  first: Any
  last: Any
  flops: float
  text: str

  def gradients(self) -> dict[str, np.ndarray]:
    """The first moments after one step: a constant times gradient and decay."""
    found = {}
    for name, leaf in tree.flat(self.first.opt_state).items():
      _, moment, after = name.partition("/mu/")
      if moment:
        found[after] = leaf
    return found


# What a key's bias adds to the logits of a query is the same for all keys: the true
# gradient is 0, and Adam with a tiny epsilon makes steps of any rounding.
KEYS = re.compile(r"(qkv|kv)/bias$")


def without_keys(name: str, leaf: np.ndarray) -> np.ndarray:
  """A leaf without the entries that are a key's bias."""
  if not KEYS.search(name):
    return leaf
  keys = 1 if name.endswith("qkv/bias") else 0  # q, k, v or k, v
  return np.delete(leaf.reshape(keys + 2, -1), keys, axis=0)


# Batch normalisation takes out what the layer before it scales and shifts by: the last
# LayerNorms of both towers. Of that gradient what is left of ITC's is rounding, a
# thousand times as large as the rest.
_LAST_NORMS = "^(visual/ln_post|text/layer_0/ln_mlp)/"
CANCELLED = {"MRA": _LAST_NORMS, "MRA, fine-tuned": _LAST_NORMS}


def differences(found: Run, expected: Run, without: str = "^$") -> dict[str, float]:
  """Largest difference of ten steps: relative, in units of what is compared.

  Args:
    without: regex of parameters that are no measure (`CANCELLED`).

  "loss": any metric of the first step, by its value. "losses": any metric of any
  step, which has come through the steps before. "gradients": any entry of the first,
  by the largest of its leaf. "parameters": the distance of any leaf after ten steps,
  by the way that it has gone.
  """
  losses = [
    max(
      abs(step[name] - value) / max(abs(value), 1e-6) for name, value in wanted.items()
    )
    for step, wanted in zip(found.metrics, expected.metrics, strict=True)
  ]
  gradients, wanted = found.gradients(), expected.gradients()
  assert set(gradients) == set(wanted) == set(tree.names(expected.start.params))
  ratios = [
    # Running statistics have no gradient.
    np.abs(gradients[name] - leaf).max() / max(np.abs(leaf).max(), 1e-30)
    for name, leaf in wanted.items()
    if not re.search(without, name)
  ]
  start = tree.flat(expected.start.params)
  last, wanted = tree.flat(found.last.params), tree.flat(expected.last.params)
  norm = lambda name, leaf: np.linalg.norm(without_keys(name, leaf))
  ways = [
    norm(name, last[name] - leaf) / norm(name, leaf - start[name])
    for name, leaf in wanted.items()
    if not re.search(without, name)
  ]
  return dict(
    loss=losses[0],
    losses=max(losses),
    gradients=float(max(ratios)),
    parameters=float(max(ways)),
  )


def config(family: str, micro_batches: int = 1) -> ConfigDict:
  made, name = FAMILIES[family]
  c = made.get_config(name)
  c.data.batch, c.train.micro_batches = ROWS, micro_batches
  c.text.length, c.text.buckets, c.text.short_first = tiny.LENGTH, (), 0
  c.model.image_size = tiny.SIZE
  if made is mra:
    if c.data.views.region:
      c.data.views.region = (4, 2)
    c.objective.itm_group = 0
    c.text.length = tiny_cross.LENGTH
    # A unit that is all but off has gradients of 1e-9, of which Adam would make steps.
    c.optim.eps = 1e-6
  else:
    c.objective.learn_temperature = made is clip
    c.objective.dual.score_layers = tiny.FIELDS["text_layers"]
  # Steps far above the rounding of what they are added to, and no warm-up from 0.
  c.optim.lr = max(c.optim.lr, 1e-3)
  c.optim.schedule.warmup_epochs, c.optim.schedule.kind = 0.0, "constant"
  return c


def is_cross(c: ConfigDict) -> bool:
  return "itc" in c.losses


def fields(c: ConfigDict, drop_path: float = DROP_PATH) -> dict[str, Any]:
  if is_cross(c):
    rates = dict(drop_path=drop_path, text_dropout=0.1, vision_dropout=0.1)
    return dict(CROSS_FIELDS, **rates)
  learnt = c.objective.learn_temperature
  scale = dict(learn_scale=learnt, initial_scale=1 / c.objective.temperature)
  return dict(FIELDS, drop_path=drop_path, **scale)


def mesh(layout: str) -> jax.sharding.Mesh:
  if layout == ONE:
    return sharding.make_mesh({}, jax.devices()[:1])
  return sharding.make_mesh(LAYOUTS[layout])


def build(
  family: str,
  layout: str,
  micro_batches: int = 1,
  drop_path: float = DROP_PATH,
  **changes,
):
  """(config, mesh, program) of a layout; `changes`: of the config's own fields."""
  c = config(family, micro_batches)
  c.update(changes)
  built = program.build(
    c,
    fields(c, drop_path),
    tokenizer=TOKENIZER,
    num_classes=CLASSES,
    mesh=mesh(layout),
    steps=100,
    steps_per_epoch=10,
    captions=100,
  )
  return c, mesh(layout), built


def objective(family: str) -> objectives.Objective:
  """The objective that the program of a family minimises."""
  c = config(family)
  module = program.model(
    c, fields(c), vocab_size=tiny.VOCAB, num_classes=CLASSES, heads=None
  )
  masking = dict(tiny.MASKING, share=c.text.mask_share)
  return objectives.make_objective(module, c.losses, c.objective, masking=masking)


def batch(step: int) -> dict[str, np.ndarray]:
  """Another one each step. Eight people, so that most have several pairs."""
  made = tiny.batch(ROWS, seed=step)
  made["ids"] = np.random.default_rng(step).integers(0, CLASSES, ROWS).astype(np.int32)
  return made


def cross_batch(step: int, c: ConfigDict) -> dict[str, np.ndarray]:
  """The same of Swin + BERT: the keys that the losses of `c` read."""
  made = tiny_cross.batch(ROWS, seed=step)
  made["ids"] = batch(step)["ids"]
  seen = dict(batch(step), **data_views.build(c.data.views).shapes(1, 1))
  return {name: value for name, value in made.items() if name in seen}


def run(
  family: str, layout: str, micro_batches: int = 1, drop_path: float = DROP_PATH
) -> Run:
  """Ten steps; each is made once, however it is asked for."""
  return _run(family, layout, micro_batches, drop_path)


@functools.cache
def _run(family: str, layout: str, micro_batches: int, drop_path: float) -> Run:
  c, where, built = build(family, layout, micro_batches, drop_path)
  key = jax.random.key(5)
  state = built.plan.create(jax.random.key(0))
  lowered = built.step.lower(built.plan.shapes, program.batch_shapes(c, where)[0], key)
  step = lowered.compile()
  states, metrics = [jax.device_get(state)], []
  for at in range(STEPS):
    made = cross_batch(at, c) if is_cross(c) else batch(at)
    rows = sharding.to_global(made, sharding.batch_sharding(where))
    state, found = step(state, rows, key)
    metrics.append({name: float(v) for name, v in jax.device_get(found).items()})
    if at in (0, STEPS - 1):
      states.append(jax.device_get(state))
  return Run(metrics, *states, step.cost_analysis()["flops"], step.as_text())
