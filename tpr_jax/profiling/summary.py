"""What a profile found, as text."""

from collections.abc import Mapping
from typing import Any

from tpr_jax import flops
from tpr_jax.profiling import parts

_OPERATIONS = 12


def lines(found: Mapping[str, Any]) -> list[str]:
  """The summary of `run.profile`'s findings, a line each."""
  step, work = found["seconds_a_step"], found["flops"]
  rate = work["model"] / step / found["devices"]
  made = [
    f"{found['config']}: {found['steps']} steps of {found['batch']} on"
    f" {found['devices']} x {found['device']}, {found['dtype']},"
    f" jax {found['surroundings']['jax']}",
    f"  step         {1e3 * step:,.1f} ms, {found['batch'] / step:,.1f} examples/s"
    f" (texts of {_lengths(found['lengths'])} tokens)",
    f"  input wait   {found['input_wait']:.1%} of the time",
    f"  device busy  {found['busy']:.1%} of the time, in the traced steps"
    f" ({1e3 * found['seconds_traced']:,.1f} ms each)",
    f"  work         {work['model'] / 1e9:,.2f} GFLOP a step in matrix products"
    + (f", and {work['again'] / 1e9:,.2f} computed again" if work["again"] else ""),
    f"  rate         {rate / 1e12:.3f} TFLOP/s a device,"
    f" {rate / found['matrix_rate']:.1%} of the {found['matrix_rate'] / 1e12:.3f} that"
    f" a product of {found['matrix_size']:,} x {found['matrix_size']:,} reaches here"
    + (f", {rate / found['peak']:.1%} of the published peak" if found["peak"] else ""),
    "",
    *_table(found),
    "",
    "  the longest operations, ms a step:",
    *_operations(found),
  ]
  return made


def _lengths(lengths: Mapping[str, int]) -> str:
  return ", ".join(f"{length} ({times} x)" for length, times in lengths.items())


def _table(found: Mapping[str, Any]) -> list[str]:
  forward, backward = found["forward"], found["backward"]
  names = dict.fromkeys([*forward, *backward])
  last = (flops.OTHER, flops.UPDATE, parts.UNKNOWN)
  order = sorted(
    names,
    key=lambda name: (name in last, -forward.get(name, 0) - backward.get(name, 0)),
  )
  whole = sum(forward.values()) + sum(backward.values())
  head = f"  {'part':<18}{'forward ms':>12}{'backward ms':>13}{'share':>8}{'GFLOP':>10}"
  made = [head]
  for name in order:
    ahead, back = forward.get(name, 0.0), backward.get(name, 0.0)
    work = found["flops"]["parts"].get(name, 0)
    made.append(
      f"  {name:<18}{1e3 * ahead:>12,.1f}{1e3 * back:>13,.1f}"
      f"{(ahead + back) / whole:>8.1%}{work / 1e9:>10,.2f}"
    )
  return made


def _operations(found: Mapping[str, Any]) -> list[str]:
  return [
    f"  {1e3 * one['seconds']:>10,.1f}  {one['name']:<28} {one['stack'][-70:]}"
    for one in found["operations"][:_OPERATIONS]
  ]
