"""The text of compiled programs: shapes, instructions, loops, memory traffic."""

import pytest

from tpr_jax.plan import hlo, traffic

# The forms in which CPU and TPU compilers write; names and numbers are made up.
LOOP = """\
HloModule step, is_scheduled=true, num_partitions=8

%body.1 (p.1: (s32[], f32[64])) -> (s32[], f32[64]) {
  %p.1 = (s32[], f32[64]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %x.1 = f32[64]{0:T(128)} get-tuple-element(%p.1), index=1
  %y.1 = f32[64]{0:T(128)} negate(%x.1)
  ROOT %t.1 = (s32[], f32[64]{0}) tuple(%i.1, %y.1)
}

%cond.1 (p.2: (s32[], f32[64])) -> pred[] {
  %p.2 = (s32[], f32[64]{0}) parameter(0)
  %limit = s32[] constant(5)
  %i.2 = s32[] get-tuple-element(%p.2), index=0
  ROOT %lt = pred[] compare(%i.2, %limit), direction=LT
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %zero = s32[] constant(0)
  %t.0 = (s32[], /*index=1*/f32[64]{0}) tuple(%zero, %a)
  %w = (s32[], f32[64]{0}) while(%t.0), condition=%cond.1, body=%body.1
  ROOT %out = f32[64]{0} get-tuple-element(%w), index=1
}
"""


def test_shapes_of_arrays_tuples_and_what_is_no_data():
  assert [s.bytes for s in hlo.shapes("f32[8,4]{1,0:T(8,128)}")] == [128]
  assert [s.bytes for s in hlo.shapes("(bf16[3], pred[], token[], s8[<=7])")] == [
    6, 1, 0, 7
  ]  # fmt: skip
  vector = hlo.shapes("bf16[193,768]{1,0:T(8,128)(2,1)S(1)}")[0]
  assert (vector.dtype, vector.bytes, vector.main) == ("bf16", 193 * 768 * 2, False)
  assert hlo.shapes("f8e4m3fn[10]")[0].bytes == 10


def test_instructions_are_read_with_names_operands_and_attributes():
  module = hlo.parse(LOOP)
  assert (module.entry, module.devices) == ("main", 8)
  assert set(module.computations) == {"body.1", "cond.1", "main"}
  loop = module.computations["main"]["w"]
  assert (loop.opcode, loop.operands, loop.root) == ("while", ("t.0",), False)
  assert loop.called("body", "condition") == ["cond.1", "body.1"]
  assert module.computations["main"]["t.0"].operands == ("zero", "a")


@pytest.mark.parametrize(
  ("attributes", "limit", "trips"),
  [
    ("", "constant(5)", 5),
    (', backend_config={"known_trip_count":{"n":"12"}}', "constant(5)", 12),
    ("", "negate(%i.2)", None),
  ],
)
def test_turns_of_a_loop(attributes, limit, trips):
  text = LOOP.replace("body=%body.1", f"body=%body.1{attributes}")
  module = hlo.parse(text.replace("constant(5)", limit))
  assert hlo.trip_count(module, module.computations["main"]["w"]) == trips
  visit = next(v for v in hlo.walk(module) if v.instruction.opcode == "negate" and (
    v.instruction.name == "y.1"))  # fmt: skip
  assert (visit.times, visit.known) == (trips or 1, trips is not None)
  if trips:
    # Read and written once at each turn; the tuple and the counter move nothing.
    assert traffic.moved(module) == trips * (2 * 256 + 2 * 4 + 1) - 9 * trips


def test_a_text_without_entry_is_an_error():
  with pytest.raises(ValueError, match="no entry computation"):
    hlo.parse("HloModule x\n")


FUSION = """\
HloModule f

%fused (q.0: f32[16,64], q.1: s32[], q.2: f32[64]) -> f32[16,64] {
  %q.0 = f32[16,64]{1,0} parameter(0)
  %q.1 = s32[] parameter(1)
  %q.2 = f32[64]{0} parameter(2)
  %z = s32[] constant(0)
  %old = f32[1,64]{1,0} dynamic-slice(%q.0, %q.1, %z), dynamic_slice_sizes={1,64}
  %new = f32[1,64]{1,0} bitcast(%q.2)
  %sum = f32[1,64]{1,0} add(%old, %new)
  ROOT %u = f32[16,64]{1,0} dynamic-update-slice(%q.0, %sum, %q.1, %z)
}

ENTRY %main (a: f32[16,64], i: s32[], b: f32[64]) -> f32[16,64] {
  %a = f32[16,64]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %b = f32[64]{0:T(128)S(1)} parameter(2)
  ROOT %r = f32[16,64]{1,0} fusion(%a, %i, %b), kind=kLoop, calls=%fused
}
"""


def test_a_slice_that_is_updated_in_place_counts_as_the_slice():
  # One row read, one written, the index; the second operand is in the fast memory.
  assert traffic.moved(hlo.parse(FUSION)) == 256 + 4 + 256
  slow = FUSION.replace("S(1)", "")
  assert traffic.moved(hlo.parse(slow)) == 3 * 256 + 4
