r"""Entry point: `python -m tpr_jax.main --config=configs/cfam.py`.

Modes (`--mode`):
  train    trains (the same command again resumes), evaluates the selected checkpoint
           on the test entries of the config and writes the report
  eval     scores a trained run again: the same `--config`, or `--run=DIR` alone
  report   writes the report of a run again, from its files
  check    examines a dataset: missing, broken and doubtful files, counts, statistics
  write    writes the config's dataset to `--out` as JPEG + JSON (UFine6926 layout)
  archive  writes it to `--out` as ArrayRecord, read back by `:archive` configs
"""

import os
import pathlib
import re
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from tpr_jax import config as configs
from tpr_jax.core import host_memory

_DASHES = ("-", "--")
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")
MODES = ("train", "eval", "report", "check", "write", "archive")

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file and its argument: configs/cfam.py:NAME,option=value."
)
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do (see above).")
_RUN = flags.DEFINE_string(
  "run", None, "Run folder. Default: runs/NAME, NAME made from the config."
)
_OUT = flags.DEFINE_string("out", None, "Folder to write to (modes write, archive).")
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Join a multi-process run described by the cluster's variables."
)


def _config_value(argv: list[str]) -> str | None:
  """The raw value of `--config`, as typed."""
  for position, word in enumerate(argv):
    name, equals, value = word.partition("=")
    if name in ("--config", "-config"):
      return value if equals else next(iter(argv[position + 1 :]), None)
  return None


def _parse_flags(argv: list[str]) -> list[str]:
  """absl's parser with the config's file found, and errors without a traceback."""
  value = _config_value(argv)
  try:
    configs.expose_shipped()
    if value is not None:
      found = configs.resolve(value)
      config = configs.read(found)
      for override in filter(None, map(_OVERRIDE.match, argv)):
        configs.check_field(config, override[1])
      words = {value: found}
      words |= {f"{dash}config={value}": f"--config={found}" for dash in _DASHES}
      argv = [argv[0], *(words.get(word, word) for word in argv[1:])]
    return flags.FLAGS(argv)
  except (configs.ConfigError, flags.Error) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _config_and_folder():
  """(locked config, run folder) from --config and --run.

  Raises:
    ConfigError: neither is given, or training without --config.
  """
  value = _config_value(sys.argv)
  folder = pathlib.Path(_RUN.value) if _RUN.value else None
  if value is None:
    if folder is None or _MODE.value not in ("eval", "report"):
      raise configs.ConfigError(
        f"--mode={_MODE.value} needs --config, for example --config=configs/cfam.py"
        + ("" if folder else "; eval and report also take --run=DIR alone")
      )
    return configs.load(folder / "config.json"), folder
  config = _CONFIG.value.lock()
  if folder is None:
    overridden = bool(config_flags.get_override_values(flags.FLAGS["config"]))
    name = configs.run_name(value, configs.plain(config), overridden)
    folder = pathlib.Path("runs") / name
  return config, folder


def _experiment():
  config, folder = _config_and_folder()  # before the seconds that JAX takes
  import jax

  from tpr_jax import experiment

  if _DISTRIBUTED.value:
    jax.distributed.initialize()
  return experiment.Experiment(config, folder)


def _data_mode(mode: str) -> int:
  from tpr_jax import data_modes

  config, _ = _config_and_folder()
  out = pathlib.Path(_OUT.value) if _OUT.value else None
  if mode == "check":
    return data_modes.check(config, out)
  if out is None:
    raise configs.ConfigError(f"--mode={mode} needs --out=DIR, the folder to write to")
  return {"write": data_modes.write, "archive": data_modes.archive}[mode](config, out)


def _dispatch() -> int:
  mode = _MODE.value
  if mode in ("check", "write", "archive"):
    return _data_mode(mode)
  experiment = _experiment()
  if mode == "train":
    from tpr_jax import training

    training.run(experiment)
  else:
    {"eval": experiment.evaluate, "report": experiment.report}[mode]()
  return 0


def _known_errors() -> tuple[type[Exception], ...]:
  """Errors that are meant for people: shown without a traceback."""
  from tpr_jax.data.record import DatasetError, ImageError
  from tpr_jax.data.tokenizer import TokenizerError
  from tpr_jax.data.transforms import PipeError

  found = [configs.ConfigError, DatasetError, ImageError, PipeError, TokenizerError]
  if "tpr_jax.experiment" in sys.modules:
    from tpr_jax import checkpoints, evaluate, experiment, train
    from tpr_jax.convert.source import ConvertError
    from tpr_jax.report.files import ReportError

    found += [checkpoints.CheckpointError, experiment.RunError, ReportError]
    found += [
      ConvertError,
      evaluate.EvaluationError,
      train.NonFiniteLoss,
      train.Interrupted,
    ]
  return tuple(found)


def main(_) -> None:
  host_memory.keep_freed_memory()  # first of all: before any thread starts
  # Orbax, Grain and TFDS tell their inner life through absl; people want the run's.
  if "TPR_JAX_VERBOSE" not in os.environ:
    logging.set_verbosity(logging.ERROR)
  try:
    status = _dispatch()
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    status = 128 + signal.SIGINT
  except Exception as error:
    if not isinstance(error, _known_errors()):
      raise
    signum = getattr(error, "signum", None)
    if signum is None:
      print(f"error: {error}", file=sys.stderr)
      status = 1
    else:
      print(f"{error}; the same command continues from there.", file=sys.stderr)
      status = 128 + signum
  sys.exit(status)


if __name__ == "__main__":
  app.run(main, flags_parser=_parse_flags)
