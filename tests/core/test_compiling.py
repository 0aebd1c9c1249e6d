import types

import jax
import numpy as np
import pytest

from tpr_jax.core import compiling, sharding


def test_a_cpu_is_told_nothing():
  assert compiling.options(sharding.make_mesh({}, jax.devices()[:1])) == {}


@pytest.mark.parametrize(("platform", "told"), [("gpu", True), ("tpu", False)])
def test_gpus_keep_what_is_rounded(platform, told):
  device = types.SimpleNamespace(platform=platform)
  mesh = types.SimpleNamespace(devices=np.array([[device]], object))
  expected = {"xla_allow_excess_precision": False} if told else {}
  assert compiling.options(mesh) == expected
