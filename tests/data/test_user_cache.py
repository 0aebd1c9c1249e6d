"""Where the user's caches are."""

import pathlib

import pytest

from tpr_jax.data import user_cache


@pytest.mark.parametrize(
  ("environment", "place"),
  [
    ({"TPR_JAX_CACHE": "off"}, None),
    ({"TPR_JAX_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/things"),
    ({"TPR_JAX_CACHE": "~/c"}, pathlib.Path.home() / "c" / "things"),
    ({"XDG_CACHE_HOME": "/b"}, "/b/tpr_jax/things"),
    ({}, pathlib.Path.home() / ".cache" / "tpr_jax" / "things"),
  ],
)
def test_the_folder(environment, place):
  expected = None if place is None else pathlib.Path(place)
  assert user_cache.folder("things", environment) == expected
