"""The flags of the command line: what they are, where they fit, what they name."""

import pathlib
import re
import sys

from absl import flags
from ml_collections import config_flags

from tpr_jax import config as configs
from tpr_jax import search_flags
from tpr_jax.core import storage

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
  "shards",
  "inspect",
  "export",
  "sweep",
  "matrix",
  "build_cross",
  "filter",
  "plan",
  "profile",
  "index",
  "search",
  "serve",
)
# tpr_jax/export/export.py, tpr_jax/export/adapters.py
FORMATS = ("huggingface", "openclip", "stablehlo", "adapters", "peft")

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file and its argument: configs/cfam.py:NAME,option=value."
)
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do; --help says more.")
RUN = flags.DEFINE_string(
  "run",
  None,
  "Run folder, or address on object storage (gs://BUCKET/RUN). Default: runs/NAME, NAME"
  " made from the config; runs/NAME-sweep. index, search, serve: a run, or any"
  " model that tpr_jax.load takes.",
)
OUT = flags.DEFINE_string(
  "out",
  None,
  "Folder to write to (modes write, archive, shards, export, build_cross, filter,"
  " matrix, compare, plan, profile; eval with --model or --features).",
)
MODEL = flags.DEFINE_string(
  "model",
  None,
  "eval: any model instead of a run: an export, a published CLIP (folder, file, hub id)"
  " or a run's folder, scored on the tests of --config.",
)
FEATURES = flags.DEFINE_string(
  "features",
  None,
  "eval: FILE.npz, FILE.parquet or QUERIES.parquet,GALLERY.parquet instead of a run.",
)
WITH = flags.DEFINE_string(
  "with", None, "compare: the folder that --run is set beside."
)
GROUP_BY = flags.DEFINE_string(
  "group_by",
  "",
  "eval --features: columns of the queries, `source` for query_source; or length.",
)
I2T = flags.DEFINE_bool("i2t", False, "eval --features: also image to text.")
MSD_VARIANT = flags.DEFINE_enum(
  "msd_variant", "paper", ("paper", "released_script"), "eval --features: kind of mSD."
)
CI_LEVEL = flags.DEFINE_float(
  "ci_level", 0.95, "eval --features, compare: level of the intervals."
)
CI_RESAMPLES = flags.DEFINE_integer(
  "ci_resamples", 2000, "eval --features, compare: resamples; 0 in eval: no intervals."
)
_ONLY_WITH_FEATURES = ("group_by", "i2t", "msd_variant")
_ONLY_WITHOUT_CONFIG = (*_ONLY_WITH_FEATURES, "ci_level", "ci_resamples")
STEP = flags.DEFINE_integer(
  "step", None, "inspect: lists every array of the checkpoint of this step."
)
FORMAT = flags.DEFINE_enum("format", "huggingface", FORMATS, "What export writes.")
TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "plan: slices of TPUs, such as v5e:4x4,v5p:4x4x4 (v4, v5e, v5p, v6e), or virtual"
  " devices of this CPU, cpu:8; each with batches of its own where v5e:4x4@512@1024.",
)
BATCHES = flags.DEFINE_list(
  "batches", [], "plan: global batches, each on every slice. Default: data.batch."
)
MICRO_BATCHES = flags.DEFINE_list(
  "micro_batches",
  [],
  "plan: numbers of micro-batches; the first that fits. Default: train.micro_batches.",
)
CLASSES = flags.DEFINE_integer(
  "classes", None, "plan: training identities. Default: the published ones."
)
MFU = flags.DEFINE_float("mfu", 0.4, "plan: share of peak that products reach.")
OVERLAP = flags.DEFINE_float(
  "overlap", 0.0, "plan: share of the collectives' time that is hidden."
)
EFFORT = flags.DEFINE_float(
  "effort", 0.0, "plan: XLA's effort, -1 (several times faster) to 1; training has 0."
)
PROFILE_STEPS = flags.DEFINE_integer(
  "profile_steps", 5, "profile: steps that are timed, and as many that are traced."
)
_ONLY_PLAN = (
  "topology",
  "batches",
  "micro_batches",
  "classes",
  "mfu",
  "overlap",
  "effort",
)
RESIZE = flags.DEFINE_string(
  "resize", None, "shards: HEIGHTxWIDTH of all pictures, as 384x128. Default: as is."
)
QUALITY = flags.DEFINE_integer(
  "quality", None, "shards: of the JPEGs that are made, 1 to 95. Default: 95."
)
SHARD_MB = flags.DEFINE_float("shard_mb", 1000.0, "shards: size of a shard.")
_ONLY_SHARDS = ("resize", "quality", "shard_mb")
DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "One of several processes of a run; SLURM, Cloud TPU, GKE or Open MPI say which.",
)
COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where the cluster does not tell."
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many there are, beside it.")
PROCESS = flags.DEFINE_integer("process", None, "Which one this is, from 0.")
PEER_TIMEOUT = flags.DEFINE_integer(
  "peer_timeout", 60, "Seconds of silence after which a process is taken for dead."
)


def config_value(argv: list[str]) -> str | None:
  """The raw value of `--config`, as typed."""
  for position, word in enumerate(argv):
    name, equals, value = word.partition("=")
    if name in ("--config", "-config"):
      return value if equals else next(iter(argv[position + 1 :]), None)
  return None


def parse_flags(argv: list[str]) -> list[str]:
  """absl's parser with the config's file found, and errors without a traceback."""
  value = config_value(argv)
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


def config_and_folder():
  """(locked config, run folder) from --config and --run.

  Raises:
    ConfigError: neither is given, or training without --config.
  """
  value = config_value(sys.argv)
  folder = _run_folder()
  if value is None:
    if folder is None or MODE.value not in ("eval", "report", "export", "inspect"):
      own = dict(_KINDS.values())
      example = own.get(MODE.value, _KINDS["the config of one run"][1])
      raise configs.ConfigError(
        f"--mode={MODE.value} needs --config, for example --config={example}"
        + (
          ""
          if folder
          else "; eval, report, inspect and export also take --run=DIR alone,"
        )
        + ("" if folder else " and eval --features=FILE or --model=PLACE --config=...")
      )
    config = configs.load(folder / "config.json")
    _check_mode(str(folder), config)
    return config, folder
  config = CONFIG.value.lock()
  _check_mode(value, config)
  if folder is None and MODE.value == "sweep":
    folder = pathlib.Path("runs") / f"{config.name}-sweep"
  if folder is None:
    overridden = bool(config_flags.get_override_values(flags.FLAGS["config"]))
    name = configs.run_name(value, configs.plain(config), overridden)
    folder = pathlib.Path("runs") / name
  return config, folder


def at_address() -> bool:
  """Whether --run is on object storage."""
  return bool(RUN.value) and storage.is_address(RUN.value)


def _run_folder() -> pathlib.Path | None:
  """The folder that --run names: of a run on object storage, its working copy."""
  if not RUN.value:
    return None
  if not at_address():
    return pathlib.Path(RUN.value)
  return storage.working_copy(RUN.value, new=MODE.value == "train")


# Kind of config -> (the mode that takes nothing else, an example).
_KINDS = {
  "a sweep, a list of runs": ("sweep", "configs/sweeps.py:ablation"),
  "a matrix, models x test sets": ("matrix", "configs/matrix.py"),
  "a test set to build": ("build_cross", "configs/cross.py"),
  "a filter of pairs": ("filter", "configs/filter.py:rendered,keep_ratio=0.9"),
  "the config of one run": ("", "configs/cfam.py"),
}


def _check_mode(value: str, config: configs.ConfigDict) -> None:
  """Each kind of config has its mode; one run's config is for all the others."""
  from tpr_jax.curate import settings as cross_settings
  from tpr_jax.filter import settings as filter_settings
  from tpr_jax.matrix import settings as matrix_settings
  from tpr_jax.sweep import plan

  *special, run = _KINDS
  tests = (
    plan.is_sweep,
    matrix_settings.is_matrix,
    cross_settings.is_cross,
    filter_settings.is_filter,
  )
  found = zip(special, tests, strict=True)
  kind = next((kind for kind, test in found if test(config)), run)
  mode = MODE.value
  wanted = next((kind for kind, (own, _) in _KINDS.items() if own == mode), run)
  if kind != wanted:
    own = _KINDS[kind][0]
    raise configs.ConfigError(
      f"--config={value} is {kind}{f': --mode={own} takes it' if own else ''};"
      f" --mode={mode} takes {wanted}, for example --config={_KINDS[wanted][1]}"
    )


def overrides() -> list[str]:
  """Fields of the config that are set on the command line, as "optim.lr"."""
  return list(config_flags.get_override_values(flags.FLAGS["config"]))


def distributed() -> bool:
  """Whether this is one of several processes of a run.

  Raises:
    ConfigError: some of the three flags that belong together are missing.
  """
  names = ("coordinator", "processes", "process")
  given = [name for name in names if flags.FLAGS[name].value is not None]
  if given and len(given) < len(names):
    absent = ", ".join(f"--{name}" for name in names if name not in given)
    raise configs.ConfigError(f"--{given[0]} needs {absent} beside it")
  return DISTRIBUTED.value or bool(given)


def _check_addresses() -> None:
  """Raises ConfigError for addresses where folders are meant: a path would be made of
  them."""
  named = {"out": OUT.value, "with": WITH.value}
  if MODE.value not in ("train", "eval", "report", "inspect", "export"):
    named["run"] = RUN.value
  for name, value in named.items():
    if value and storage.is_address(value):
      raise configs.ConfigError(
        f"--{name}={value}: --mode={MODE.value} takes a folder here, no address on"
        " object storage"
      )


def check_flags() -> None:
  """Flags that would do nothing where they are.

  Raises:
    ConfigError: names the flag, and where it belongs.
  """
  mode, given = MODE.value, lambda name: flags.FLAGS[name].present
  _check_addresses()
  if distributed() and mode not in ("train", "eval", "filter"):
    raise configs.ConfigError(
      f"--mode={mode} runs in one process: several (--distributed, --coordinator) are"
      " for --mode=train, --mode=eval and --mode=filter"
    )
  if given("peer_timeout") and not distributed():
    raise configs.ConfigError("--peer_timeout is for several processes (--distributed)")
  features = mode == "eval" and given("features")
  model = mode == "eval" and given("model")
  allowed = {
    "features": mode == "eval",
    "model": mode == "eval",
    "with": mode == "compare",
    "step": mode == "inspect",
    **{name: features for name in _ONLY_WITH_FEATURES},
    **{name: features or mode == "compare" for name in ("ci_level", "ci_resamples")},
  }
  for name, fits in allowed.items():
    if given(name) and not fits:
      where = {"with": "compare", "step": "inspect"}.get(name, "eval")
      more = " and --features=FILE" if name in _ONLY_WITHOUT_CONFIG else ""
      raise configs.ConfigError(
        f"--{name} is for --mode={where}{more}; a run's own fields are"
        " --config.eval.* and --config.evals.NAME.*"
      )
  for name in _ONLY_PLAN:
    if given(name) and mode != "plan":
      field = dict(batches="data.batch", micro_batches="train.micro_batches").get(name)
      raise configs.ConfigError(
        f"--{name} is for --mode=plan"
        + (f"; a run's own field is --config.{field}" if field else "")
      )
  for name in _ONLY_SHARDS:
    if given(name) and mode != "shards":
      raise configs.ConfigError(
        f"--{name} is for --mode=shards; training has --config.data.image"
      )
  if given("profile_steps") and mode != "profile":
    raise configs.ConfigError(
      "--profile_steps is for --mode=profile; a run's own field is --config.train.steps"
    )
  search_flags.check(mode)
  if mode == "eval" and given("out") and not features and not model:
    raise configs.ConfigError(
      "--out is for --mode=eval with --model or --features; a run's results are written"
      " to its own folder"
    )
  several = ("distributed", "coordinator")
  for what, here, names in (
    ("--features=FILE", features, ("config", "run", "model", *several)),
    ("--mode=compare", mode == "compare", ("config",)),
    ("--model=PLACE", model, ("run", *several)),
    ("--mode=matrix", mode == "matrix", ("run",)),
    ("--mode=filter", mode == "filter", ("run",)),
    ("--mode=plan", mode == "plan", ("run", "format")),
    ("--mode=profile", mode == "profile", ("run", "format")),
    ("--mode=index", mode == "index", ("config", "out", "format")),
    ("--mode=search", mode == "search", ("config", "out", "format")),
    ("--mode=serve", mode == "serve", ("config", "out", "format")),
  ):
    for name in names if here else ():
      if config_value(sys.argv) if name == "config" else given(name):
        raise configs.ConfigError(f"{what} takes no --{name}")
