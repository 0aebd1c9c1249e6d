import types

import jax
import numpy as np
import pytest

from tpr_jax.core import compiling, sharding


def test_a_cpu_is_told_nothing():
  assert compiling.options(sharding.make_mesh({}, jax.devices()[:1])) == {}


@pytest.mark.parametrize(("platform", "told"), [("gpu", True), ("tpu", False)])
def test_gpus_alone_are_told_something(platform, told):
  device = types.SimpleNamespace(platform=platform)
  mesh = types.SimpleNamespace(devices=np.array([[device]], object))
  found = compiling.options(mesh)
  assert bool(found) is told and not any(found.values())
