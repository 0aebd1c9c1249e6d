"""Operations by the part of the model, in traces of tiny functions."""

import types

import jax
import jax.numpy as jnp
import pytest

from tpr_jax import flops
from tpr_jax.profiling import parts, trace
from tpr_jax.profiling.problems import ProfileError


def event(name, start, seconds, *, device="a", program=1):
  return trace.Event(device, program, name, start, seconds)


def test_time_in_which_operations_overlap_counts_once():
  events = [event("x", 0, 4), event("y", 1, 2), event("z", 3, 3), event("x", 8, 1)]
  assert trace.busy(events) == {"a": 7}
  both = [*events, event("x", 0, 5, device="b")]
  assert trace.busy(reversed(both)) == {"a": 7, "b": 5}
  assert trace.busy([]) == {}


def test_programs_are_in_the_order_in_which_they_ran():
  events = [event("x", n, 1, program=p) for n, p in enumerate([7, 7, 3, 7, 5])]
  assert trace.programs(events) == [7, 3, 5]


def test_the_time_of_each_part_and_direction_is_added():
  visual = parts.Operation("visual", False, "a/visual/x")
  back = parts.Operation("visual", True, "transpose(a)/visual/x")
  known = {1: {"x": visual, "y": back, "loop": None}, 2: {"x": back}}
  events = [
    event("x", 0, 1.0),
    event("x", 1, 2.0),
    event("loop", 0, 9.0),  # what it holds has events of its own
    event("y", 3, 4.0),
    event("x", 7, 8.0, program=2),
    event("new", 9, 0.5),
  ]
  found = parts.spent(events, known)
  assert found.forward == {"visual": 3.0, parts.UNKNOWN: 0.5}
  assert found.backward == {"visual": 12.0}
  assert list(found.operations.items()) == [
    (("x", back.stack), 8.0),
    (("y", back.stack), 4.0),
    (("x", visual.stack), 3.0),
    (("new", ""), 0.5),
  ]


class DualEncoder:  # as the name stacks of the real one begin
  def encode(self, x, w):
    with jax.named_scope("DualEncoder.encode"), jax.named_scope("visual"):
      return jnp.tanh(x @ w)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
  """(folder, text) of a program that ran three times under the profiler."""

  def step(w, x):
    turn = lambda w, _: (
      w - jax.grad(lambda w: DualEncoder().encode(x, w).sum())(w),
      None,
    )
    return jax.lax.scan(turn, w, None, length=2)[0]

  folder, x = tmp_path_factory.mktemp("trace"), jnp.ones((64, 64))
  compiled = jax.jit(step).lower(x, x).compile()
  compiled(x, x).block_until_ready()
  with jax.profiler.trace(str(folder)):
    for _ in range(3):
      compiled(x, x).block_until_ready()
    jax.jit(lambda x: x @ x)(x).block_until_ready()  # another program
  return folder, compiled.as_text()


def test_a_real_trace_names_the_operations_of_the_program(traced):
  folder, text = traced
  events = trace.read(trace.newest(folder), "jit_step")
  operations = parts.of_program(text)
  assert events and {one.name for one in events} <= set(operations)
  assert len(trace.programs(events)) == 1
  assert [one.start for one in events] == sorted(one.start for one in events)
  found = parts.spent(events, {events[0].program: operations})
  assert found.forward["visual"] > 0 and found.backward["visual"] > 0
  assert set(found.forward) <= {"visual", flops.UPDATE, flops.OTHER, parts.UNKNOWN}
  # Six turns of the loop: the loop itself is not counted beside what it holds.
  whole = sum(found.forward.values()) + sum(found.backward.values())
  own = [one for one in events if operations[one.name] is not None]
  assert whole == pytest.approx(sum(one.seconds for one in own))
  assert len(own) < len(events)


def test_a_folder_without_a_trace(tmp_path):
  with pytest.raises(ProfileError, match="has written no trace"):
    trace.newest(tmp_path)


def line(name, *stats):
  made = [
    types.SimpleNamespace(stats=dict(one).items(), start_ns=1e9, duration_ns=2e9)
    for one in stats
  ]
  return types.SimpleNamespace(name=name, events=made)


def plane(name, *lines):
  return types.SimpleNamespace(name=name, lines=lines)


@pytest.mark.parametrize(
  ("lines", "found"),
  [
    # A GPU: its streams.
    ([line("Stream #7", dict(hlo_op="a", hlo_module="jit_step", program_id=3))], ["a"]),
    # A TPU: one line of operations; the others repeat them.
    (
      [
        line("Steps", dict(hlo_op="step", hlo_module="jit_step")),
        line("XLA Ops", dict(hlo_op="b", hlo_module="jit_step"), dict(other=1)),
      ],
      ["b"],
    ),
    # Other programs, and one of the same name that has a number.
    (
      [
        line(
          "t",
          dict(hlo_op="c", hlo_module="jit_step.2"),
          dict(hlo_op="d", hlo_module="jit_step_two"),
          dict(hlo_op="e", hlo_module="jit_other"),
        )
      ],
      ["c"],
    ),
  ],
)
def test_lines_of_other_devices(lines, found, monkeypatch):
  data = types.SimpleNamespace(
    from_file=lambda _: types.SimpleNamespace(planes=[plane("/device:X:0", *lines)])
  )
  monkeypatch.setattr(jax.profiler, "ProfileData", data)
  events = trace.read("any", "jit_step")
  assert [one.name for one in events] == found
  assert (events[0].device, events[0].seconds) == ("/device:X:0", 2.0)
