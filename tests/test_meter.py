"""How fast training is, by a clock that the tests set."""

import pytest

from tpr_jax import meter
from tpr_jax.core import peaks


@pytest.fixture
def clock(monkeypatch):
  class Clock:
    now = 50.0

  monkeypatch.setattr(meter.time, "perf_counter", lambda: Clock.now)
  return Clock


def test_compilation_is_not_training_and_waiting_is(clock):
  made = meter.Meter(8)
  with made.apart():
    clock.now += 30
  with made.waiting():
    clock.now += 1
  clock.now += 3
  assert made.read(5) == dict(examples_per_second=10.0, input_wait=0.25)
  # A reading begins anew.
  clock.now += 2
  assert made.read(1) == dict(examples_per_second=4.0, input_wait=0.0)


def test_what_came_before_a_restart_does_not_count(clock):
  made = meter.Meter(8)
  made.work(10)
  with made.waiting():
    clock.now += 100
  made.restart()
  clock.now += 4
  assert made.read(1) == dict(examples_per_second=2.0, input_wait=0.0)


def test_work_is_that_of_one_device_and_a_share_of_its_peak(clock):
  made = meter.Meter(8, devices=4, peak=5e12)
  for _ in range(3):
    made.work(8 * 10**12)
  clock.now += 6
  found = made.read(3)
  assert found["tflops"] == pytest.approx(1.0)
  assert found["flop_utilisation"] == pytest.approx(0.2)
  assert set(found) == set(meter.CLOCK)


def test_work_that_is_known_of_some_steps_alone_is_not_told(clock):
  made = meter.Meter(8, peak=1e12)
  made.work(10)
  clock.now += 1
  assert "tflops" not in made.read(2)
  assert "flop_utilisation" not in made.read(0)
  made.work(10**12)
  clock.now += 1
  assert made.read(1)["flop_utilisation"] == 1.0


@pytest.mark.parametrize(
  ("kind", "rate"),
  [
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA A100-SXM4-80GB", 312e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA L40S", 362e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5", 459e12),
    ("NVIDIA L40", None),
    ("cpu", None),
  ],
)
def test_peaks_are_found_by_the_name_of_the_device(kind, rate):
  assert peaks.bfloat16(kind) == rate
