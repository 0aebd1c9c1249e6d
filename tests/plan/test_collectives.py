"""Collectives of programs that are known to have them, and of lines as TPUs write."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tpr_jax.plan import collectives, hlo, traffic

ROWS, WIDTH = 64, 128
WHOLE = ROWS * WIDTH * 4  # bytes of the array
SPLIT = P(("a", "b"))


@pytest.fixture(scope="module")
def mesh():
  if jax.device_count() < 8:
    pytest.skip("needs 8 virtual CPU devices (tests/conftest.py)")
  devices = np.array(jax.devices()[:8]).reshape(4, 2)
  return Mesh(devices, ("a", "b"), axis_types=(AxisType.Auto,) * 2)


def compiled(mesh, fn, spec=SPLIT, out=SPLIT):
  """Collectives of a per-device function over an array [ROWS, WIDTH]."""
  made = jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False)
  array = jax.ShapeDtypeStruct(
    (ROWS, WIDTH), jnp.float32, sharding=NamedSharding(mesh, spec)
  )
  text = jax.jit(made).lower(array).compile().as_text()
  return collectives.found(hlo.parse(text))


def test_an_all_reduce(mesh):
  (one,) = compiled(mesh, lambda x: jax.lax.psum(x, ("a", "b")), out=P())
  assert (one.kind, one.group, one.dtype, one.count) == ("all-reduce", 8, "f32", 1)
  assert one.payload == WHOLE / 8
  assert one.wire == pytest.approx(2 * 7 / 8 * WHOLE / 8)


def test_an_all_reduce_over_one_axis(mesh):
  (one,) = compiled(mesh, lambda x: jax.lax.psum(x, "a"), out=P("b"))
  assert (one.group, one.payload) == (4, WHOLE / 8)
  assert one.wire == pytest.approx(2 * 3 / 4 * WHOLE / 8)


def test_an_all_gather(mesh):
  gather = lambda x: jax.lax.all_gather(x, ("a", "b"), tiled=True)
  (one,) = compiled(mesh, gather, out=P())
  assert (one.kind, one.group, one.payload) == ("all-gather", 8, WHOLE)
  assert one.wire == pytest.approx(7 / 8 * WHOLE)


def test_a_reduce_scatter(mesh):
  scatter = lambda x: jax.lax.psum_scatter(x, "b", scatter_dimension=1, tiled=True)
  (one,) = compiled(mesh, scatter)
  assert (one.kind, one.group, one.payload) == ("reduce-scatter", 2, WHOLE / 8)
  assert one.wire == pytest.approx(WHOLE / 16)


def test_an_all_to_all_and_a_permutation(mesh):
  swap = lambda x: jax.lax.all_to_all(x, "a", 1, 0, tiled=True)
  (one,) = compiled(mesh, swap)
  assert (one.kind, one.group, one.payload) == ("all-to-all", 4, WHOLE / 8)
  turn = lambda x: jax.lax.ppermute(x, "b", [(0, 1), (1, 0)])
  (one,) = compiled(mesh, turn)
  assert (one.kind, one.payload, one.wire) == (
    "collective-permute", WHOLE / 8, WHOLE / 8
  )  # fmt: skip


@pytest.mark.parametrize("turns", [3, 7])
def test_a_collective_in_a_loop_counts_at_every_turn(mesh, turns):
  def fn(x):
    step = lambda y, _: (jnp.sin(jax.lax.psum(y, "a")), None)
    return jax.lax.scan(step, x, None, length=turns)[0]

  (one,) = compiled(mesh, fn)
  assert (one.count, one.known) == (turns, True)
  assert one.payload == turns * WHOLE / 8


def test_loops_within_loops_multiply(mesh):
  def fn(x):
    inner = lambda y, _: (jnp.sin(jax.lax.psum(y, "b")), None)
    outer = lambda y, _: (jax.lax.scan(inner, y, None, length=3)[0] + 1, None)
    return jax.lax.scan(outer, x, None, length=4)[0]

  (one,) = compiled(mesh, fn)
  assert one.count == 12


def test_what_jit_decides_for_itself_is_found(mesh):
  """The gradient of a mean over a split batch: one all-reduce of the parameters."""
  whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(("a", "b")))
  grad = jax.grad(lambda w, x: jnp.mean(jnp.tanh(x @ w)))
  w = jax.ShapeDtypeStruct((WIDTH, 16), jnp.float32)
  x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
  made = jax.jit(grad, in_shardings=(whole, split), out_shardings=whole)
  found = collectives.found(hlo.parse(made.lower(w, x).compile().as_text()))
  assert [(one.kind, one.payload) for one in found] == [("all-reduce", WIDTH * 16 * 4)]


def test_one_device_talks_to_nobody():
  made = jax.jit(lambda x: jnp.sum(x @ x.T)).lower(jnp.ones((8, 8))).compile()
  assert collectives.found(hlo.parse(made.as_text())) == []


# ---- lines as the TPU compiler writes them


def module(lines, before="", devices=8):
  body = "\n".join(f"  {line}" for line in lines)
  return hlo.parse(
    f"HloModule m, num_partitions={devices}\n{before}\n"
    f"ENTRY %main (x: f32[64,8]) -> f32[] {{\n  %x = f32[64,8]{{1,0}} parameter(0)\n"
    f"{body}\n}}\n"
  )


@pytest.mark.parametrize(
  ("groups", "size"),
  [
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
    ("replica_groups={}", 8),
    ("replica_groups=[2,4]<=[8]", 4),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
    ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
    ("replica_groups=mesh['a'=2,'b'=2,'c'=2] {'a', 'c'}", 4),
    ("replica_groups=mesh['a'=8] {'a':(2)4}", 4),
    ("channel_id=1", 8),
  ],
)
def test_the_ways_to_write_groups(groups, size):
  line = f"ROOT %r = f32[64,8] all-reduce(%x), {groups}, to_apply=%add"
  (one,) = collectives.found(module([line]))
  assert (one.group, one.payload) == (size, 64 * 8 * 4)


def test_groups_of_an_unknown_form_are_an_error():
  line = "ROOT %r = f32[64,8] all-reduce(%x), replica_groups=@groups, to_apply=%add"
  with pytest.raises(ValueError, match="device groups of an unknown form"):
    collectives.found(module([line]))


def test_groups_of_one_device_are_none():
  line = "ROOT %r = f32[64,8] all-reduce(%x), replica_groups={{0},{1}}, to_apply=%add"
  assert collectives.found(module([line])) == []


def test_start_and_done_are_one_collective():
  found = collectives.found(
    module(
      [
        "%s = (f32[64,8]{1,0}, f32[512,8]{1,0}) all-gather-start(%x),"
        " replica_groups={}, dimensions={0}",
        "ROOT %d = f32[512,8]{1,0} all-gather-done(%s)",
      ]
    )
  )
  assert [(c.kind, c.count, c.payload) for c in found] == [
    ("all-gather", 1, 512 * 8 * 4)
  ]


def test_an_asynchronous_computation_is_entered_once():
  before = (
    "%wrapped (p: f32[64,8]) -> f32[8,8] {\n  %p = f32[64,8]{1,0} parameter(0)\n"
    "  ROOT %rs = f32[8,8]{1,0} reduce-scatter(%p), replica_groups={},"
    " dimensions={0}, to_apply=%add\n}\n"
  )
  found = collectives.found(
    module(
      [
        "%s = ((f32[64,8]), f32[8,8]) async-start(%x), calls=%wrapped",
        "%u = ((f32[64,8]), f32[8,8]) async-update(%s), calls=%wrapped",
        "ROOT %d = f32[8,8]{1,0} async-done(%u), calls=%wrapped",
      ],
      before,
    )
  )
  assert [(c.kind, c.count) for c in found] == [("reduce-scatter", 1)]


def test_an_all_reduce_of_which_a_slice_is_kept_is_a_reduce_scatter():
  before = (
    "%fused (p: f32[64,8]) -> f32[8,8] {\n  %p = f32[64,8]{1,0} parameter(0)\n"
    "  %i = s32[] constant(0)\n"
    "  %ar = f32[64,8]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add\n"
    "  ROOT %ds = f32[8,8]{1,0} dynamic-slice(%ar, %i, %i),"
    " dynamic_slice_sizes={8,8}\n}\n"
  )
  line = "ROOT %r = f32[8,8]{1,0} fusion(%x), kind=kCustom, calls=%fused"
  (one,) = collectives.found(module([line], before))
  assert (one.kind, one.payload, one.wire) == ("reduce-scatter", 2048, 7 / 8 * 2048)


def test_a_loop_of_unknown_length_is_told():
  before = (
    "%body (p: f32[64,8]) -> f32[64,8] {\n  %p = f32[64,8]{1,0} parameter(0)\n"
    "  ROOT %ar = f32[64,8]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add\n}\n"
    "%cond (q: f32[64,8]) -> pred[] {\n  %q = f32[64,8]{1,0} parameter(0)\n"
    "  ROOT %c = pred[] custom-call(%q)\n}\n"
  )
  line = "ROOT %w = f32[64,8]{1,0} while(%x), condition=%cond, body=%body"
  (one,) = collectives.found(module([line], before))
  assert (one.count, one.known) == (1, False)


def test_sums_by_kind():
  sums = collectives.by_kind(
    [
      collectives.Collective("all-gather", 8, "f32", 2, 80.0, 70.0),
      collectives.Collective("all-reduce", 8, "f32", 1, 8.0, 14.0),
      collectives.Collective("all-gather", 4, "bf16", 1, 40.0, 30.0),
    ]
  )
  assert list(sums) == ["all-reduce", "all-gather"]
  assert sums["all-gather"] == dict(count=3, payload=120.0, wire=100.0)


GATHER = "%{name} = f32[64,8]{{1,0}} all-gather(%p), channel_id=7, replica_groups={{}}"
FLAG = ', backend_config={{"async_collective_fusion_config":{{"flag_start":"{flag}"}}}}'
BESIDE = """
%start (p: f32[8,8]) -> (f32[8,8], f32[64,8]) {{
  %p = f32[8,8]{{1,0}} parameter(0)
  {start}
  ROOT %s = (f32[8,8]{{1,0}}, f32[64,8]{{1,0}}) custom-call(%g)
}}

%work (p: f32[8,8], q: f32[64,8], y: f32[4,4]) -> (f32[4,4], f32[8,8], f32[64,8]) {{
  %p = f32[8,8]{{1,0}} parameter(0)
  %q = f32[64,8]{{1,0}} parameter(1)
  %y = f32[4,4]{{1,0}} parameter(2)
  {work}
  %t = f32[4,4]{{1,0}} tanh(%y)
  ROOT %w = (f32[4,4]{{1,0}}, f32[8,8]{{1,0}}, f32[64,8]{{1,0}}) tuple(%t, %p, %h)
}}
"""


def test_a_collective_that_runs_beside_fusions_counts_once():
  """TPUs write it in the fusion that starts it, and in each that runs meanwhile."""
  start = (GATHER + FLAG).format(name="g", flag=-1)
  work = (GATHER + FLAG).format(name="h", flag=2)
  lines = [
    "%m = f32[8,8]{1,0} slice(%x), slice={[0:8], [0:8]}",
    "%y = f32[4,4]{1,0} slice(%x), slice={[0:4], [0:4]}",
    "%a = (f32[8,8]{1,0}, f32[64,8]{1,0}) fusion(%m), kind=kCustom, calls=%start",
    "%b = f32[8,8]{1,0} get-tuple-element(%a), index=0",
    "%c = f32[64,8]{1,0} get-tuple-element(%a), index=1",
    "ROOT %r = (f32[4,4]{1,0}, f32[8,8]{1,0}, f32[64,8]{1,0}) fusion(%b, %c, %y),"
    " kind=kOutput, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})},"
    " calls=%work",
  ]
  found = module(lines, BESIDE.format(start=start, work=work))
  (one,) = collectives.found(found)
  assert (one.kind, one.count, one.wire) == ("all-gather", 1, 7 * 8 * 8 * 4)
  slices = 2 * (8 * 8 + 4 * 4) * 4
  assert traffic.moved(found) == slices + (2 * 8 * 8 + 64 * 8) * 4 + 2 * 4 * 4 * 4
