"""Rules that put adapters on a model's layers, and their way back into the kernels.

A rule of `config.model.adapters` is (regex on a layer's name, options), as

  ("^visual/stage_.*/(qkv|out|fc|proj)$", dict(method="wora", rank=8))

The first rule whose regex is found in the name of a dense layer counts. The kernel and
the bias below an adapter are frozen. Names, defaults and sources of the methods:

  lora  V = K + (alpha / r) A B                     arXiv:2106.09685, Eq. 3
  dora  m V / n, one m and n per output, n constant in the backward pass
                                                    arXiv:2402.09353, Eq. 5 and 11
  wora  m V / n, V = beta K + alpha A B, one m and n per input, alpha and beta learnt,
        n not detached                              arXiv:2404.10292 and its code
Its authors call the norm of wora "column-wise"; their weight is [out, in], and a column
of it belongs to an input. DoRA's is [in, out]. `norm_per` chooses.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tpr_jax.core import tree
from tpr_jax.models.adapter_methods import METHODS
from tpr_jax.models.layers import adapter
from tpr_jax.models.layers.adapter import Rules, Spec
from tpr_jax.ops import lowrank

_CHOICES = dict(norm_per=("input", "output"), a_init=("normal", "kaiming"))
_ONLY_NORMALISED = ("norm_per", "detach_norm", "m_relative")
_LEAF = re.compile(rf"^(.+)/{adapter.NAME}/(\w+)$")


class AdapterError(ValueError):
  """Rules of adapters, or adapters and weights, do not fit: says which and why."""


def rules(given: Iterable[Any]) -> Rules:
  """`config.model.adapters`, checked: pairs (regex, `Spec`).

  Raises:
    AdapterError: an entry that is no such pair, or what `spec` refuses.
  """
  found = []
  for entry in given:
    pair = isinstance(entry, Sequence) and not isinstance(entry, str)
    if not pair or len(entry) != 2 or not isinstance(entry[0], str):
      raise AdapterError(
        f"model.adapters: {entry!r} is no pair of a regex and options, for example"
        ' ("^visual/.*/(qkv|out|fc|proj)$", dict(method="wora", rank=8))'
      )
    pattern, options = entry
    try:
      re.compile(pattern)
    except re.error as error:
      raise AdapterError(
        f"model.adapters: {pattern!r} is no regular expression: {error}"
      ) from error
    found.append((pattern, options if isinstance(options, Spec) else spec(options)))
  return tuple(found)


def spec(options: Mapping[str, Any]) -> Spec:
  """Options of a rule, the method's defaults (`METHODS`) where nothing is given.

  Raises:
    AdapterError: an unknown method, option or value; names the nearest.
  """
  if not isinstance(options, Mapping):
    raise AdapterError(
      f"model.adapters: {options!r} are no options; expected dict(method=..., rank=...)"
    )
  given = dict(options)
  method = given.pop("method", None)
  if method not in METHODS:
    raise AdapterError(_nearest("method", method, METHODS))
  fields = dict(METHODS[method])
  for name, value in given.items():
    if name not in fields:
      raise AdapterError(_nearest("option", name, ("method", *fields)))
    kind = type(fields[name])
    number = kind is float and type(value) is int
    if type(value) is not kind and not number:
      raise AdapterError(
        f"model.adapters: {name}={value!r}: expected a {kind.__name__}, for example"
        f" {fields[name]!r}"
      )
    fields[name] = kind(value)
  _check(method, fields)
  return Spec(method=method, **fields)


def _check(method: str, fields: Mapping[str, Any]) -> None:
  if method == "lora":
    for name in _ONLY_NORMALISED:
      if fields[name]:
        raise AdapterError(
          f"model.adapters: {name}={fields[name]!r} is of methods that normalise; lora"
          " does not: leave it out, or use method='dora'"
        )
  for name, known in _CHOICES.items():
    if fields[name] not in known and fields[name] != METHODS[method][name]:
      raise AdapterError(_nearest(name, fields[name], known))
  if fields["rank"] < 1:
    raise AdapterError(f"model.adapters: rank={fields['rank']}: expected 1 or more")
  if not 0.0 <= fields["dropout"] < 1.0:
    raise AdapterError(
      f"model.adapters: dropout={fields['dropout']}: expected 0 to below 1"
    )
  beta, divided = fields["beta_init"], bool(fields["norm_per"])
  if (divided and beta <= 0.0) or (not divided and beta != 1.0):
    expected = "above 0" if divided else "1, for lora divides by no norm"
    raise AdapterError(
      f"model.adapters: beta_init={beta}: expected {expected}; the layer would not"
      " start as the kernel that it adapts"
    )


def _nearest(kind: str, name: Any, known: Iterable[str]) -> str:
  known = sorted(known)
  close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
  hint = f"; did you mean {close[0]!r}?" if close else "."
  return f"model.adapters: unknown {kind} {name!r}{hint} Known: {', '.join(known)}"


# ---- which layers


def layers(params: Any) -> list[str]:
  """Names of all dense layers of a model: what rules can match."""
  return [
    name.removesuffix("/kernel")
    for name, shape in tree.shapes(params).items()
    if name.endswith("/kernel") and len(shape) == 2
  ]


def adapted(rules: Rules, params: Any) -> dict[str, Spec]:
  """Name -> spec of every layer that a rule is for."""
  found = {name: tree.first_match(rules, name) for name in layers(params)}
  return {name: spec for name, spec in found.items() if spec is not None}


def check(rules: Rules, params: Any, complete: Any = None) -> None:
  """What rules must keep to before a training starts.

  Args:
    params: tree of arrays or shapes.
    complete: () -> the tree of the model with every head; a rule may be for a head that
      this run leaves out.

  Raises:
    AdapterError: a rule that no layer takes; names the nearest layers.
  """
  known = layers(params)
  if _unused(rules, known) and complete is not None:
    known = layers(complete())
  for pattern in _unused(rules, known):
    for earlier, _ in rules:
      if any(re.search(earlier, n) and re.search(pattern, n) for n in known):
        raise AdapterError(
          f"model.adapters: {pattern!r} matches only layers that an earlier rule takes"
          f" ({earlier!r}): put it first, or leave it out"
        )
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.0)
    raise AdapterError(
      f"model.adapters: {pattern!r} matches the name of no dense layer; the nearest of"
      f" {len(known)} are {', '.join(near)}"
    )


def _unused(rules: Rules, names: Sequence[str]) -> list[str]:
  """Patterns that are the first to match none of the names."""
  patterns = [(pattern, at) for at, (pattern, _) in enumerate(rules)]
  taken = {tree.first_match(patterns, name) for name in names}
  return [pattern for pattern, at in patterns if at not in taken]


def frozen(rules: Rules, params: Any) -> set[str]:
  """Names of the kernels and biases below adapters: they do not train."""
  known = set(tree.names(params))
  chosen = adapted(rules, params)
  return {f"{layer}/{x}" for layer in chosen for x in ("kernel", "bias")} & known


# ---- parameters: fresh adapters on loaded kernels, and the way back


def of_leaf(name: str) -> str | None:
  """The layer whose adapter has the leaf `name`; None for any other leaf."""
  match = _LEAF.match(name)
  return match[1] if match else None


def restarted(rules: Rules, params: Any, kept: Iterable[str]) -> Any:
  """Parameters whose magnitudes are the norms of the kernels that were loaded.

  Args:
    params: arrays; of fresh adapters, whose magnitudes are of the kernels before.
    kept: names of leaves that were loaded, magnitudes among them.
  """
  flat, kept = tree.flat(params), set(kept)
  specs = {
    f"{layer}/{adapter.NAME}/magnitude": (f"{layer}/kernel", of)
    for layer, of in adapted(rules, params).items()
    if of.norm_per
  }
  specs = {name: of for name, of in specs.items() if name not in kept}
  if not specs:
    return params

  def start(kernels):
    return {n: adapter.first_magnitude(kernels[k], of) for n, (k, of) in specs.items()}

  where = {name: flat[name].sharding for name in specs}
  kernels = {kernel: flat[kernel] for kernel, _ in specs.values()}
  return tree.replace(params, jax.jit(start, out_shardings=where)(kernels))


def merged(
  rules: Rules, weights: Mapping[str, np.ndarray], only: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
  """Leaves of a model with adapters -> those of the plain model that does the same.

  Args:
    weights: name -> array.
    only: layers that lose their adapters; default: all.

  Returns:
    float32 kernels under their own names; every other leaf as it is.

  Raises:
    AdapterError: a leaf of an adapter that no rule is for, or one without its leaves.
  """
  found = {layer for layer in map(of_leaf, weights) if layer is not None}
  chosen = found if only is None else set(only)
  made = {n: x for n, x in weights.items() if of_leaf(n) not in chosen}
  for layer in sorted(chosen):
    of = tree.first_match(rules, layer)
    if of is None:
      raise AdapterError(f"{layer} has an adapter, and no rule of model.adapters")
    made[f"{layer}/kernel"] = _merged(layer, of, weights)
  return made


def fitted(
  theirs: Rules, weights: Mapping[str, np.ndarray], ours: Rules
) -> dict[str, np.ndarray]:
  """Weights with adapters, for a model that need not have the same ones.

  An adapter that the model has too stays as it is; any other is merged.

  Args:
    theirs: rules of the adapters among the weights.
    ours: of the model.

  Raises:
    AdapterError: a layer has another kind of adapter here and there.
  """
  merge = []
  for layer in sorted({of_leaf(name) for name in weights} - {None}):
    there, here = tree.first_match(theirs, layer), tree.first_match(ours, layer)
    if here is None or there is None:
      merge.append(layer)
    else:
      _check_kind(layer, there, here)
  return merged(theirs, weights, merge)


def check_same(
  theirs: Rules, weights: Iterable[str], ours: Rules, params: Iterable[str]
) -> None:
  """Two models have the same adapters on the same layers.

  Args:
    weights, params: names of the leaves there and here.

  Raises:
    AdapterError: they do not.
  """
  there, here = ({of_leaf(name) for name in names} - {None}
                 for names in (weights, params))  # fmt: skip
  if there != here:
    only = sorted(there ^ here)
    where = "there" if only[0] in there else "here"
    raise AdapterError(
      f"adapters of other layers: {len(only)} differ, {only[0]} has one {where} alone;"
      " model.adapters must have the rules that they were trained with"
    )
  for layer in sorted(here):
    _check_kind(layer, tree.first_match(theirs, layer), tree.first_match(ours, layer))


def _check_kind(layer: str, there: Spec, here: Spec) -> None:
  mine, differ = _function(here), []
  for name, value in _function(there).items():
    if value != mine.get(name):
      differ.append(f"{name} {value!r} there and {mine.get(name)!r} here")
  if differ:
    raise AdapterError(
      f"{layer} has another kind of adapter: {', '.join(differ)}. Adapters go on as"
      " they were: use the same options; or start from the merged model, which"
      " --mode=export writes"
    )


def _function(of: Spec) -> dict[str, Any]:
  """What an adapter's leaves mean: without what only training or the start needs."""
  found = dataclasses.asdict(of)
  unused = ["dropout", "a_init", "detach_norm", "method"]
  unused += ["alpha_init"] if of.learn_scale else []
  unused += ["beta_init"] if of.learn_base_scale else []
  return {name: value for name, value in found.items() if name not in unused}


def _merged(layer: str, of: Spec, weights: Mapping[str, np.ndarray]) -> np.ndarray:
  leaves = {}
  for name in adapter.leaf_names(of):
    full = f"{layer}/{adapter.NAME}/{name}"
    if full not in weights:
      raise AdapterError(f"{full} is missing: the rule for it asks for {of.method}")
    leaves[name] = jnp.asarray(weights[full], jnp.float32)
  kernel = jnp.asarray(weights[f"{layer}/kernel"], jnp.float32)
  found = adapter.factors(of, kernel, leaves)
  return np.asarray(lowrank.merged(kernel, found, of.norm_per))
