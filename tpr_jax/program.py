"""The training program that a config describes: model, objective, optimizer, placement.

Needs neither data nor a run folder, so it can also be compiled where neither is.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from tpr_jax import freezing, gradients, objectives, optim, score_table, train
from tpr_jax.core import sharding, tree
from tpr_jax.core.types import Params
from tpr_jax.data import prompts as attribute_prompts
from tpr_jax.data import sampler as samplers
from tpr_jax.data import views as data_views
from tpr_jax.models import adapters, clip_text, swin
from tpr_jax.models import build as model_build


class Program(NamedTuple):
  """What trains.

  Attributes:
    model: the Flax module, with the heads that the active losses need.
    plan: how the state is made, its shapes and where each leaf lives.
    step: the jitted step (train.make_train_step).
    frozen: names of the parameters that do not train (freezing.py).
  """

  model: Any
  plan: train.StatePlan
  step: Callable[..., Any]
  frozen: frozenset[str]


def model(
  config: ConfigDict,
  fields: Mapping[str, Any],
  *,
  vocab_size: int,
  num_classes: int,
  heads: Collection[str] | None = None,
) -> Any:
  """The Flax module with the heads that the active losses need (or those given).

  Args:
    fields: of models/build.py.
    num_classes: training identities.
  """
  if heads is None:
    heads = objectives.heads(config.losses, config.objective)
  return model_build.build(
    fields, vocab_size=vocab_size, num_classes=num_classes, heads=heads
  )


def init_fn(
  config: ConfigDict, module: Any, end_id: int
) -> Callable[[jax.Array], Params]:
  """key -> fresh parameters of the module; `end_id`: the tokenizer's end token.

  Raises:
    ValueError: the text tower cannot find this end token.
  """
  if isinstance(module.text, clip_text.TextTower):
    clip_text.check_end(module.text.vocab_size, end_id)
  image = jnp.zeros((2, *config.model.image_size, 3), jnp.uint8)
  text = jnp.full((2, config.text.length), end_id, jnp.int32)
  return lambda key: module.init(key, image, text)["params"]


def build(
  config: ConfigDict,
  fields: Mapping[str, Any],
  *,
  tokenizer: Any,
  num_classes: int,
  mesh: Mesh,
  steps: int,
  steps_per_epoch: int,
  captions: int,
) -> Program:
  """The program, traced and compiled when needed.

  Args:
    fields: of models/build.py.
    tokenizer: anything with vocab_size, mask_id, start_id and end_id.
    num_classes: training identities.
    captions: that are trained on: rows of a table of scores, if there is one.

  Raises:
    ValueError: fields of the config that do not fit each other.
  """
  made = dict(vocab_size=tokenizer.vocab_size, num_classes=num_classes)
  module = model(config, fields, **made)
  complete = model(config, fields, heads=model_build.all_heads(fields), **made)
  key = jax.random.key(0)

  # Jitted: traced once, for the shapes here and for the state below.
  init = jax.jit(init_fn(config, module, tokenizer.end_id), inline=True)
  cross = model_build.is_cross(fields)
  views = data_views.build(config.data.get("views"))
  with_views(config, fields, views)
  objective = objectives.make_objective(
    module,
    config.losses,
    config.objective,
    masking={} if cross else masking(tokenizer, config.text),
    most_masked=views.mask.get("most", 1),
    prompts=encoded_prompts(config, views, tokenizer),
  )
  shapes = jax.eval_shape(init, key)

  @functools.cache
  def complete_shapes():
    return jax.eval_shape(init_fn(config, complete, tokenizer.end_id), key)

  rules = module.adapters
  adapters.check(rules, shapes, complete_shapes)
  frozen = freezing.frozen(
    config.optim.get("freeze", ()), rules, shapes, complete_shapes
  )

  def trained(params):
    return tree.without(params, frozen)

  tx, schedule = optim.make_optimizer(
    config.optim,
    trained(shapes),
    steps=steps,
    steps_per_epoch=steps_per_epoch,
    complete=complete_shapes,
  )
  sharding.check_rules(shapes, mesh, config.shardings, complete_shapes)
  table = None
  if objective.dual is not None and objective.dual.delayed:
    table = score_table.ScoreTable(captions, config.text.length)
  plan = train.state_plan(init, tx, mesh, config.shardings, table, trained)
  grad_fn = gradients.make_grad_fn(
    objective, micro_batches=config.train.micro_batches, trained=trained
  )
  params_sh = plan.shardings.params
  grad_fn = sharding.on_mesh(grad_fn, mesh, params_sh, trained(params_sh))
  step = train.make_train_step(grad_fn, tx, schedule, mesh, plan.shardings)
  return Program(module, plan, step, frozen)


# View of a row -> the losses that read it.
_READERS = dict(
  region=("region_itc", "region_itm"),
  eda=("eda_itc", "eda_itm"),
  mask=("mlm", "attr_mlm"),  # prompts are masked by the rule of captions
  attributes=("attr_itc", "attr_itm", "attr_mlm"),
)


def with_views(
  config: ConfigDict, fields: Mapping[str, Any], views: data_views.Views
) -> None:
  """What input, losses and towers must agree on.

  Raises:
    ValueError: a loss without the view that it reads, a view that no loss reads, other
      cells than the image tower has, or text buckets under bins of whole texts.
  """
  names, cross = objectives.active(config.losses), model_build.is_cross(fields)
  for view, losses in _READERS.items():
    readers = [name for name in losses if name in names and cross]
    field = {"mask": "mask.rule", "eda": "eda.synonyms"}
    where = f"data.views.{field.get(view, view)}"
    if readers and not getattr(views, view):
      raise ValueError(f"losses.{readers[0]} reads what {where} makes, which is off")
    if getattr(views, view) and not readers:
      raise ValueError(
        f"{where}: no loss reads it (that would be {' or '.join(losses)}, of Swin +"
        " BERT); switch it off"
      )
  if not cross:
    return
  grid = swin.grids(fields["image_size"], fields["patch"], len(fields["vision_depths"]))
  if views.region and tuple(views.region) != grid[-1]:
    raise ValueError(
      f"data.views.region={tuple(views.region)}: the last stage of the image tower has"
      f" {grid[-1]} (rows, columns)"
    )
  if config.text.buckets and (fields["projection"], fields["text_bins"]) == (
    "bins",
    "all",
  ):
    raise ValueError(
      "text.buckets: with model.projection='bins' and model.text_bins='all' a text's"
      " feature depends on its padding; set --config.text.buckets=()"
    )


def encoded_prompts(
  config: ConfigDict, views: data_views.Views, tokenizer: Any
) -> attribute_prompts.Encoded | None:
  """The attribute prompts as tokens, their words masked by the rule of captions.

  None where no view asks for them. Raises ValueError as `prompts.encode`.
  """
  if not views.attributes:
    return None
  return attribute_prompts.encode(
    attribute_prompts.build(views.attributes),
    tokenizer,
    length=config.text.length,
    masking=views.mask,
    seed=config.seed,
  )


def batch_shapes(config: ConfigDict, mesh: Mesh) -> list[dict[str, Any]]:
  """Shapes, dtypes and shardings of the batches: one dict for each text length.

  Raises:
    ValueError: views that cannot be used.
  """
  batch_sh = sharding.batch_sharding(mesh)

  def of(*shape, dtype=jnp.int32):
    shape = (config.data.batch, *shape)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sh)

  longest = config.text.length
  shown = data_views.build(config.data.get("views"))
  lengths = samplers.bucket_lengths(tuple(config.text.buckets), longest)
  image = of(*config.model.image_size, 3, dtype=jnp.uint8)
  rows = {name: of() for name in ("ids", "image_id", "example", "replaced")}

  def more(length):
    found = shown.shapes(length, longest)
    return {key: of(*shape, dtype=dtype) for key, (shape, dtype) in found.items()}

  return [dict(rows, image=image, text=of(n), **more(n)) for n in lengths]


def masking(tokenizer: Any, text: Any) -> dict[str, Any]:
  """Arguments of losses/mlm.mask_tokens: the rates, and the tokenizer's ids."""
  return dict(
    mask_id=tokenizer.mask_id,
    vocab_size=tokenizer.vocab_size,
    special_ids=(tokenizer.start_id, tokenizer.end_id),
    share=text.mask_share,
    mask=text.mask_as_mask,
    random=text.mask_as_random,
  )
