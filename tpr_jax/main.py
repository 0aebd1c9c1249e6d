r"""Entry point: `python -m tpr_jax.main --config=configs/cfam.py`.

Modes (`--mode`):
  train    trains (the same command again resumes), evaluates the selected checkpoint
           on the test entries of the config and writes the report
  eval     scores a trained run again: the same `--config`, or `--run=DIR` alone; or
           the features of any model, from a file: `--features=FILE.npz` (also parquet),
           and with `--out=DIR` keeps what `compare` needs
  compare  two models on the same queries, `--run=A --with=B` (runs, or such folders):
           differences, intervals and p values, written to `--out` or A
  report   writes the report of a run again, from its files
  check    examines a dataset: missing, broken and doubtful files, counts, statistics
  write    writes the config's dataset to `--out` as JPEG + JSON (UFine6926 layout)
  archive  writes it to `--out` as ArrayRecord, read back by `:archive` configs
  sweep    trains a list of runs with several seeds (configs/sweeps.py) and writes the
           table of means and deviations; the same command again resumes
  build_cross  builds a cross-setting test set from several datasets (configs/cross.py)
           in `--out`, its texts rewritten by language models if asked for; the same
           command again resumes, and takes up what was decided in review.jsonl
  export   writes the selected checkpoint of a run (`--run`, or the same `--config`) to
           the folder `--out`, with a model card, as `--format` says: huggingface
           (transformers.CLIPModel; the default), openclip, or stablehlo (both encoders
           for any batch, to be served by JAX alone)
"""

import os
import pathlib
import re
import shlex
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from tpr_jax import config as configs
from tpr_jax.core import host_memory

_DASHES = ("-", "--")
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")
MODES = (
  "train",
  "eval",
  "compare",
  "report",
  "check",
  "write",
  "archive",
  "export",
  "sweep",
  "build_cross",
)
FORMATS = ("huggingface", "openclip", "stablehlo")  # tpr_jax/export/export.py

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file and its argument: configs/cfam.py:NAME,option=value."
)
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do (see above).")
_RUN = flags.DEFINE_string(
  "run",
  None,
  "Run folder. Default: runs/NAME, NAME made from the config; runs/NAME-sweep.",
)
_OUT = flags.DEFINE_string(
  "out",
  None,
  "Folder to write to (modes write, archive, export, build_cross, compare; eval with"
  " --features).",
)
_FEATURES = flags.DEFINE_string(
  "features",
  None,
  "eval: FILE.npz, FILE.parquet or QUERIES.parquet,GALLERY.parquet instead of a run.",
)
_WITH = flags.DEFINE_string(
  "with", None, "compare: the folder that --run is set beside."
)
_GROUP_BY = flags.DEFINE_string(
  "group_by", "", "eval --features: column of the queries, `source` for query_source."
)
_I2T = flags.DEFINE_bool("i2t", False, "eval --features: also image to text.")
_MSD_VARIANT = flags.DEFINE_enum(
  "msd_variant", "paper", ("paper", "released_script"), "eval --features: kind of mSD."
)
_CI_LEVEL = flags.DEFINE_float(
  "ci_level", 0.95, "eval --features, compare: level of the intervals."
)
_CI_RESAMPLES = flags.DEFINE_integer(
  "ci_resamples", 2000, "eval --features, compare: resamples; 0 in eval: no intervals."
)
_ONLY_WITH_FEATURES = ("group_by", "i2t", "msd_variant")
_ONLY_WITHOUT_CONFIG = (*_ONLY_WITH_FEATURES, "ci_level", "ci_resamples")
_FORMAT = flags.DEFINE_enum(
  "format", "huggingface", FORMATS, "What export writes (see above)."
)
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
    if folder is None or _MODE.value not in ("eval", "report", "export"):
      own = {"sweep": "sweeps.py:ablation", "build_cross": "cross.py"}
      example = own.get(_MODE.value, "cfam.py")
      raise configs.ConfigError(
        f"--mode={_MODE.value} needs --config, for example --config=configs/{example}"
        + ("" if folder else "; eval, report and export also take --run=DIR alone,")
        + ("" if folder else " and eval --features=FILE")
      )
    return configs.load(folder / "config.json"), folder
  config = _CONFIG.value.lock()
  _check_mode(value, config)
  if folder is None and _MODE.value == "sweep":
    folder = pathlib.Path("runs") / f"{config.name}-sweep"
  if folder is None:
    overridden = bool(config_flags.get_override_values(flags.FLAGS["config"]))
    name = configs.run_name(value, configs.plain(config), overridden)
    folder = pathlib.Path("runs") / name
  return config, folder


# Kind of config -> (the mode that takes nothing else, an example).
_KINDS = {
  "a sweep, a list of runs": ("sweep", "configs/sweeps.py:ablation"),
  "a test set to build": ("build_cross", "configs/cross.py"),
  "the config of one run": ("", "configs/cfam.py"),
}


def _check_mode(value: str, config: configs.ConfigDict) -> None:
  """Each kind of config has its mode; one run's config is for all the others."""
  from tpr_jax.curate import settings
  from tpr_jax.sweep import plan

  sweep, cross, run = _KINDS
  kind = sweep if plan.is_sweep(config) else cross if settings.is_cross(config) else run
  mode = _MODE.value
  wanted = next((kind for kind, (own, _) in _KINDS.items() if own == mode), run)
  if kind != wanted:
    own = _KINDS[kind][0]
    raise configs.ConfigError(
      f"--config={value} is {kind}{f': --mode={own} takes it' if own else ''};"
      f" --mode={mode} takes {wanted}, for example --config={_KINDS[wanted][1]}"
    )


def _sweep() -> int:
  """Its processes import JAX; this one does not, and leaves them the devices."""
  if _OUT.value or _DISTRIBUTED.value:
    raise configs.ConfigError(
      "--mode=sweep takes no --out (--run=DIR names its folder) and no --distributed"
    )
  config, folder = _config_and_folder()
  from tpr_jax.sweep import plan, run

  words = [pathlib.Path(sys.executable).name, "-m", "tpr_jax.main", *sys.argv[1:]]
  return run.Sweep(plan.build(config, folder), words=shlex.join(words))()


def _check_flags() -> None:
  """Flags that would do nothing where they are."""
  mode, given = _MODE.value, lambda name: flags.FLAGS[name].present
  features = mode == "eval" and given("features")
  allowed = {
    "features": mode == "eval",
    "with": mode == "compare",
    **{name: features for name in _ONLY_WITH_FEATURES},
    **{name: features or mode == "compare" for name in ("ci_level", "ci_resamples")},
  }
  for name, fits in allowed.items():
    if given(name) and not fits:
      where = "compare" if name == "with" else "eval"
      more = " and --features=FILE" if name in _ONLY_WITHOUT_CONFIG else ""
      raise configs.ConfigError(
        f"--{name} is for --mode={where}{more}; a run's own fields are"
        " --config.eval.* and --config.evals.NAME.*"
      )
  without = ("config", "distributed") + (("run",) if features else ())
  for name in without if features or mode == "compare" else ():
    if _config_value(sys.argv) if name == "config" else given(name):
      what = "--features=FILE" if features else "--mode=compare"
      raise configs.ConfigError(f"{what} takes no --{name}")


def _feature_eval() -> int:
  from tpr_jax import feature_eval

  with configs.errors():
    options = feature_eval.Options(
      group_by=_GROUP_BY.value,
      i2t=_I2T.value,
      msd_variant=_MSD_VARIANT.value,
      intervals=_intervals() if _CI_RESAMPLES.value else None,
    )
  out = pathlib.Path(_OUT.value) if _OUT.value else None
  feature_eval.run(_FEATURES.value, out, options)
  return 0


def _intervals():
  from tpr_jax.metrics import uncertainty

  return uncertainty.Bootstrap(_CI_LEVEL.value, _CI_RESAMPLES.value)


def _compare() -> int:
  if not _RUN.value or not _WITH.value:
    raise configs.ConfigError(
      "--mode=compare needs two folders with results: --run=A --with=B"
    )
  from tpr_jax import compare

  with configs.errors():
    intervals = _intervals()
  out = pathlib.Path(_OUT.value or _RUN.value)
  compare.run(pathlib.Path(_RUN.value), pathlib.Path(_WITH.value), out, intervals)
  return 0


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


def _export() -> int:
  if _OUT.value is None:
    raise configs.ConfigError("--mode=export needs --out=DIR, the folder to write to")
  _, folder = _config_and_folder()
  from tpr_jax.export import export  # JAX takes seconds

  export.export(folder, pathlib.Path(_OUT.value), _FORMAT.value)
  return 0


def _build_cross() -> int:
  """Neither JAX nor a run is needed."""
  if _RUN.value or _DISTRIBUTED.value:
    raise configs.ConfigError(
      "--mode=build_cross takes no --run (--out=DIR is its folder) and no --distributed"
    )
  config, _ = _config_and_folder()
  if _OUT.value is None:
    raise configs.ConfigError(
      "--mode=build_cross needs --out=DIR, the folder to write to"
    )
  from tpr_jax.curate import build

  return build.build_cross(config, pathlib.Path(_OUT.value))


def _dispatch() -> int:
  mode = _MODE.value
  _check_flags()
  if mode == "build_cross":
    return _build_cross()
  if mode == "compare":
    return _compare()
  if mode == "eval" and _FEATURES.value is not None:
    return _feature_eval()
  if mode == "export":
    return _export()
  if mode in ("check", "write", "archive"):
    return _data_mode(mode)
  if mode == "sweep":
    return _sweep()
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
  if "tpr_jax.compare" in sys.modules:
    from tpr_jax.compare import CompareError
    from tpr_jax.rankings import RankingError

    found += [CompareError, RankingError]
  if "tpr_jax.feature_eval" in sys.modules:
    from tpr_jax.evaluate import EvaluationError
    from tpr_jax.feature_files import FeatureError

    found += [EvaluationError, FeatureError]
  if "tpr_jax.sweep.run" in sys.modules:
    from tpr_jax.sweep import processes

    found += [processes.SweepError, processes.Interrupted]
  if "tpr_jax.curate.build" in sys.modules:
    from tpr_jax.curate import problems

    found += [problems.CurateError, problems.Interrupted]
  if "tpr_jax.run_folder" in sys.modules:  # JAX has been imported
    from tpr_jax.checkpoints import CheckpointError
    from tpr_jax.convert.source import ConvertError
    from tpr_jax.run_folder import RunError

    found += [CheckpointError, ConvertError, RunError]
  if "tpr_jax.experiment" in sys.modules:
    from tpr_jax import evaluate, train
    from tpr_jax.report.files import ReportError

    found += [
      evaluate.EvaluationError,
      train.NonFiniteLoss,
      train.Interrupted,
      ReportError,
    ]
  if "tpr_jax.export.export" in sys.modules:
    from tpr_jax.export.problems import ExportError

    found += [ExportError]
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
