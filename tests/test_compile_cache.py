"""The cache of compiled programs: found again, and left alone where it is decided."""

import os
import pathlib
import subprocess
import sys

from tpr_jax import compile_cache

ROOT = pathlib.Path(compile_cache.__file__).parent.parent


def test_it_is_in_the_users_folder_for_caches(tmp_path):
  environment = {"TPR_JAX_CACHE": str(tmp_path)}
  compile_cache.use(environment)
  place = pathlib.Path(environment["JAX_COMPILATION_CACHE_DIR"])
  assert place.is_dir() and place.parent == tmp_path / "programs"
  again = {"TPR_JAX_CACHE": str(tmp_path)}
  compile_cache.use(again)
  assert again == environment


def test_what_the_user_decided_stays(tmp_path):
  for given in (
    {"JAX_COMPILATION_CACHE_DIR": "/x", "TPR_JAX_CACHE": str(tmp_path)},
    {"TPR_JAX_CACHE": "off"},
  ):
    environment = dict(given)
    compile_cache.use(environment)
    assert environment == given
  limit = {"TPR_JAX_CACHE": str(tmp_path), "JAX_COMPILATION_CACHE_MAX_SIZE": "7"}
  compile_cache.use(limit)
  assert limit["JAX_COMPILATION_CACHE_MAX_SIZE"] == "7"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
  (tmp_path / "file").write_text("no folder")
  environment = {"TPR_JAX_CACHE": str(tmp_path / "file")}
  compile_cache.use(environment)
  assert "JAX_COMPILATION_CACHE_DIR" not in environment


PROGRAM = """
from tpr_jax import compile_cache
compile_cache.use()
import jax, jax.numpy as jnp
from jax import monitoring
hits = []
monitoring.register_event_listener(
  lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None
)
print(float(jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)(jnp.ones((3, 3))).sum()))
print(len(hits) > 0)
"""


def test_a_second_process_finds_the_program_of_the_first(tmp_path):
  environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
  environment |= dict(TPR_JAX_CACHE=str(tmp_path), JAX_PLATFORMS="cpu")
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  said = [
    subprocess.run(
      [sys.executable, "-c", PROGRAM],
      env=environment,
      cwd=ROOT,
      check=True,
      capture_output=True,
      text=True,
    ).stdout.split()
    for _ in range(2)
  ]
  assert said[0][0] == said[1][0]
  assert [hit for _, hit in said] == ["False", "True"]
