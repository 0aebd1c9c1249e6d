"""Slices, their links, and rooflines by hand."""

import pytest

from tpr_jax.plan import chips, estimate, settings
from tpr_jax.plan.collectives import Collective
from tpr_jax.plan.problems import PlanError


def test_slices_are_read():
  place = chips.parse("v5p:4x4x8")
  assert (place.kind, place.shape, place.chips, place.devices) == (
    "v5p", (4, 4, 8), 128, 128
  )  # fmt: skip
  assert chips.parse("v4:2x2x1").devices == 8  # two cores a chip
  assert chips.parse("cpu:6").chip is None


def asked(topology):
  made = settings.read(
    topology,
    ["64"],
    [],
    default_batch=1,
    default_micro_batches=2,
    assumptions=settings.Assumptions(),
  )
  return [(c.slice.name, c.batch, c.micro_batches) for c in made.cases()]


def test_slices_take_the_batches_of_all_or_their_own():
  found = asked("v5e:2x4, cpu:8@16@32,v5e:2x4")
  assert found == [("v5e:2x4", 64, (2,)), ("cpu:8", 16, (2,)), ("cpu:8", 32, (2,))]
  with pytest.raises(PlanError, match="whole numbers"):
    asked("v5e:2x4@many")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("v9:2x2", "a chip of v4, v5e, v5p, v6e, cpu"),
    ("v5e", "expected CHIP:SHAPE"),
    ("v5e:2x2x2", "has 2 number"),
    ("v5p:4x4", "for example v5p:4x4x4"),
    ("cpu:2x2", "for example cpu:4"),
    ("v5e:0x4", "each 1 or more"),
    (" , ", "none is named"),
  ],
)
def test_slices_that_cannot_be(text, message):
  with pytest.raises(PlanError, match=message):
    asked(text)


@pytest.mark.parametrize(
  ("name", "group", "ports"),
  [
    ("v5e:2x4", 8, 2),  # two lines
    ("v5e:8x8", 64, 2),
    ("v5e:16x16", 256, 4),  # two rings
    ("v5e:16x16", 16, 2),  # along one of them
    ("v5e:16x16", 8, 1),  # half of one
    ("v5e:8x16", 128, 3),
    ("v5p:4x4x4", 64, 6),
    ("v5p:2x2x1", 4, 2),
    ("v5p:4x4x4", 2, 1),
    ("v5e:1x1", 1, 1),
  ],
)
def test_ports_that_a_group_can_send_by(name, group, ports):
  assert chips.parse(name).links(group) == ports


FACTS = dict(
  matrix_passes=197e12 * 8,
  hardware_flops=295.5e12,
  device_flops=295.5e12 / 8,
  flops=dict(forward={"a": 98.5e12}, backward={"a": 197e12}),
)
ALL_REDUCE = Collective("all-reduce", 8, "f32", 1, 50e9, 87.5e9)


def test_a_step_by_hand():
  assume = settings.Assumptions(mfu=0.5, overlap=0.25, hbm=0.5, ici=0.5)
  found = estimate.of(
    chips.parse("v5e:2x4"), 512, FACTS, 0.819e12, [ALL_REDUCE], assume
  )
  # 8 chips for 8 chip-seconds of peak; HBM once over; 87.5 GB by two ports of 50 GB/s.
  assert (found.compute, found.memory) == (pytest.approx(2.0), pytest.approx(2.0))
  assert found.network == pytest.approx(87.5 / (2 * 50 * 0.5))
  assert found.step == pytest.approx(2.0 + 0.75 * 1.75)
  assert found.examples == pytest.approx(512 / found.step)
  assert found.mfu == pytest.approx(295.5e12 / (found.step * 8 * 197e12))


def test_the_slower_roof_counts_and_a_cpu_has_none():
  one = lambda name, traffic: estimate.of(
    chips.parse(name), 512, FACTS, traffic, [], settings.Assumptions(mfu=1.0)
  )
  assert one("v5e:2x4", 0.0).step == pytest.approx(1.0)
  assert one("v5e:2x4", 8 * 0.819e12).step == pytest.approx(10.0)
  assert one("cpu:8", 0.0) is None


def test_repeated_work_takes_its_time():
  twice = dict(FACTS, device_flops=2 * FACTS["device_flops"])
  place, assume = chips.parse("v5e:2x4"), settings.Assumptions(mfu=1.0)
  found = estimate.of(place, 512, twice, 0.0, [], assume)
  assert found.compute == pytest.approx(2.0)


def test_a_chip_of_two_cores_has_the_work_of_both():
  assume = settings.Assumptions(mfu=1.0, hbm=1.0, ici=1.0)
  found = estimate.of(
    chips.parse("v4:2x2x2"), 1, dict(FACTS, device_flops=1.0), 1.2e12, [], assume
  )
  assert found.memory == pytest.approx(2.0)
  assert found.compute == pytest.approx(197 / 275)


def test_efficiency_is_against_the_smallest_slice_at_the_same_share():
  at = lambda rate: estimate.Estimate(0, 0, 0, 1, rate, 0)
  small, large = chips.parse("v5e:2x4"), chips.parse("v5e:4x4")
  other = chips.parse("v6e:2x4")
  rows = [
    (small, 256, at(800.0)),  # 100 a chip, 32 pairs each
    (small, 512, at(1600.0)),
    (large, 512, at(1520.0)),  # 95, also 32 each
    (large, 2048, at(3200.0)),  # no row of the small slice has 128 each
    (other, 256, at(9.0)),
    (large, 64, None),
  ]
  found = estimate.efficiencies(rows)
  assert found == [1.0, 1.0, pytest.approx(0.95), pytest.approx(1.0), 1.0, None]


@pytest.mark.parametrize("wrong", [dict(mfu=0.0), dict(mfu=1.2), dict(overlap=-0.1)])
def test_shares_outside_of_one_are_errors(wrong):
  with pytest.raises(PlanError, match="expected a share of 1"):
    settings.Assumptions(**wrong)


def test_every_assumption_is_said():
  said = " ".join(estimate.said(settings.Assumptions(mfu=0.35), ["v5e", "v5e", "cpu"]))
  for part in ("35%", "80%", "197 TFLOP/s", "16 GiB", "819 GB/s", "4 ports of 50 GB/s"):
    assert part in said, said
  assert said.count("v5e:") == 1
