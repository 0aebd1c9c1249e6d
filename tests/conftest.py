"""Settings for every test; set before anything imports JAX."""

import gc
import os
import shutil
import signal
import tempfile
from importlib import metadata

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = [
  # Eight virtual devices, so that every sharded path is run on any machine.
  "--xla_force_host_platform_device_count=8",
  # Tiny arrays, hundreds of programs: fast compilation matters, fast code does not
  # (measured on one training step: 17 s of compilation down to 4 s).
  "--xla_backend_optimization_level=0",
  # Parts compiled at the same time cost more in all; tests share the cores already.
  "--xla_cpu_parallel_codegen_split_count=1",
]
if metadata.version("jaxlib").startswith("0.10."):
  _FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # later versions abort on it
_given = os.environ.get("XLA_FLAGS", "").split()
_names = {flag.split("=")[0] for flag in _given}
os.environ["XLA_FLAGS"] = " ".join(
  [*_given, *(flag for flag in _FLAGS if flag.split("=")[0] not in _names)]
)
# Tracing makes many small objects that stay: looking for garbage after every 700 of
# them took a seventh of it.
gc.set_threshold(20_000, 10, 10)
# No test may reach the network: hub look-ups fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# A background job of a shell, and nohup, start with signals ignored; those that a test
# sends must arrive, also at the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser):
  parser.addoption(
    "--sample", action="store_true", help="proofs: a few cases of each, in minutes"
  )


_CACHE = pytest.StashKey[str]()


def pytest_configure(config):
  """What is kept for the next run is kept for all processes of a test run, those that
  tests start included, and never read from the user's folder. Proofs, but for a sample,
  make everything anew."""
  if "PYTEST_XDIST_WORKER" in os.environ:
    return  # the first process has seen to it
  whole = config.getoption("markexpr") != "not proof"
  if whole and not config.getoption("--sample"):
    os.environ["TPR_JAX_CACHE"] = "off"
    return
  folder = config.stash[_CACHE] = tempfile.mkdtemp(prefix="tpr_jax_tests_")
  os.environ["TPR_JAX_CACHE"] = folder
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/programs")
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def pytest_unconfigure(config):
  if _CACHE in config.stash:
    shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


@pytest.fixture(scope="session")
def sample(request):
  """Whether a proof shall try a few of its cases only."""
  return request.config.getoption("--sample")


def pytest_collection_modifyitems(config, items):
  """With --sample, of the proofs only those that know which cases to take."""
  if not config.getoption("--sample"):
    return
  left = [
    i for i in items if i.get_closest_marker("proof") and "sample" not in i.fixturenames
  ]
  config.hook.pytest_deselected(items=left)
  items[:] = [item for item in items if item not in left]
