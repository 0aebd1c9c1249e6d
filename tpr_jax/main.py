r"""Entry point: `python -m tpr_jax.main --config=configs/cfam.py`.

Modes (`--mode`):
  train    trains (the same command again resumes), evaluates the selected checkpoint
           on the test entries of the config and writes the report
  eval     scores a trained run again: the same `--config`, or `--run=DIR` alone; or
           the features of any model, from a file: `--features=FILE.npz` (also parquet),
           and with `--out=DIR` keeps what `compare` needs; or any model that
           `tpr_jax.load` takes (a run, an export, a published CLIP) on the tests of a
           config: `--model=PLACE --config=... --out=DIR`
  compare  two models on the same queries, `--run=A --with=B` (runs, or such folders):
           differences, intervals and p values, written to `--out` or A
  report   writes the report of a run again, from its files; of a filter's folder, a
           page on what was cut
  check    examines a dataset: missing, broken and doubtful files, counts, statistics
  write    writes the config's dataset to `--out` as JPEG + JSON (UFine6926 layout)
  archive  writes it to `--out` as ArrayRecord, read back by `:archive` configs
  shards   writes it to `--out` as shards, which `:shards` configs read while they
           train: for sets that no memory holds; `--resize=384x128` spares most of their
           decoding; the same command again goes on
  sweep    trains a list of runs with several seeds (configs/sweeps.py) and writes the
           table of means and deviations; the same command again resumes
  matrix   scores any models on any test sets (configs/matrix.py) and writes the table
           to `--out` as text, CSV, LaTeX and a heat map; the same command again does
           what is missing or has changed
  build_cross  builds a cross-setting test set from several datasets (configs/cross.py)
           in `--out`, its texts rewritten by language models if asked for; the same
           command again resumes, and takes up what was decided in review.jsonl
  filter   says which image-text pairs to keep (configs/filter.py): each caption ranked
           for its image against random ones by any model; writes the manifest that
           data.filter trains by, and the kept set, to `--out`; the same command again
           resumes, and with another k or keep_ratio cuts again
  inspect  says what is in a run's checkpoints: which are whole, scores, parameters,
           versions and devices; `--step=N` lists every array of one
  plan     compiles the training step of a config for TPUs that are not there
           (`--topology=v5e:4x4,v5e:8x8`, `--batches=512,2048`): memory, FLOPs,
           collectives and an estimated step time; `--out` keeps the table and the
           programs, and the same command again does what is missing
  profile  trains some steps and tells where their time goes: a summary, and a trace for
           Perfetto or TensorBoard, in `--out` (default: runs/NAME-profile)
  index    embeds the pictures of a folder by any model, `--run=RUN_OR_MODEL
           --images=FOLDER --index=DIR`, with a table about them (`--metadata=FILE`) if
           there is one; or the people that a detector finds in them (`--detect=FOLDER`
           of transformers, or `FILE.onnx`); the same command again does what is new,
           changed or gone
  search   finds pictures of an index (`--index=DIR`) by a sentence (`--query`), by a
           picture (`--image`) or both, among those that meet a condition (`--where`): a
           table, JSON (`--json`), a page or a picture (`--sheet`)
  serve    a web page and an HTTP API for the same searches (`--index=DIR`), for this
           machine alone unless `--host` says otherwise
  export   writes the selected checkpoint of a run (`--run`, or the same `--config`) to
           the folder `--out`, with a model card, as `--format` says: huggingface
           (transformers.CLIPModel; the default), openclip, or stablehlo (both encoders
           for any batch, to be served by JAX alone)
"""

import errno
import os
import pathlib
import signal
import sys
import traceback
from typing import NoReturn

from absl import app, flags, logging

from tpr_jax import cli, compile_cache, search_flags, supervise
from tpr_jax import config as configs
from tpr_jax.core import deterministic, host_memory, text

for _module in (cli, search_flags):  # --help shows them
  flags.adopt_module_key_flags(_module)


def _sweep() -> int:
  """Its processes import JAX; this one does not, and leaves them the devices."""
  if cli.OUT.value:
    raise configs.ConfigError(
      "--mode=sweep takes no --out (--run=DIR names its folder)"
    )
  config, folder = cli.config_and_folder()
  from tpr_jax.sweep import plan, run

  return run.Sweep(plan.build(config, folder), words=text.command())()


def _feature_eval() -> int:
  host_memory.run_in_caller()
  from tpr_jax import feature_eval

  with configs.errors():
    options = feature_eval.Options(
      group_by=cli.GROUP_BY.value,
      i2t=cli.I2T.value,
      msd_variant=cli.MSD_VARIANT.value,
      intervals=_intervals() if cli.CI_RESAMPLES.value else None,
    )
  out = pathlib.Path(cli.OUT.value) if cli.OUT.value else None
  feature_eval.run(cli.FEATURES.value, out, options)
  return 0


def _model_eval() -> int:
  if cli.config_value(sys.argv) is None or cli.OUT.value is None:
    raise configs.ConfigError(
      "--mode=eval --model=PLACE needs --config, which says what it is tested on, and"
      " --out=DIR, the folder to write to"
    )
  config, _ = cli.config_and_folder()
  host_memory.run_in_caller()
  from tpr_jax import model_eval

  out = pathlib.Path(cli.OUT.value)
  model_eval.run(cli.MODEL.value, config, cli.overrides(), out)
  return 0


def _matrix() -> int:
  config, _ = cli.config_and_folder()
  if cli.OUT.value is None:
    raise configs.ConfigError("--mode=matrix needs --out=DIR, the folder to write to")
  from tpr_jax.matrix import settings

  checked = settings.read(config)
  host_memory.run_in_caller()
  from tpr_jax.matrix import run

  return run.Matrix(checked, pathlib.Path(cli.OUT.value))()


def _intervals():
  from tpr_jax.metrics import uncertainty

  return uncertainty.Bootstrap(cli.CI_LEVEL.value, cli.CI_RESAMPLES.value)


def _compare() -> int:
  if not cli.RUN.value or not cli.WITH.value:
    raise configs.ConfigError(
      "--mode=compare needs two folders with results: --run=A --with=B"
    )
  from tpr_jax import compare

  with configs.errors():
    intervals = _intervals()
  out = pathlib.Path(cli.OUT.value or cli.RUN.value)
  compare.run(pathlib.Path(cli.RUN.value), pathlib.Path(cli.WITH.value), out, intervals)
  return 0


def _experiment():
  config, folder = cli.config_and_folder()  # before the seconds that JAX takes
  if config.train.get("deterministic", True):
    deterministic.ask()
  host_memory.run_in_caller()
  _join()
  from tpr_jax import experiment

  return experiment.Experiment(config, folder)


def _join() -> None:
  """Joins the other processes, if there are any."""
  if cli.distributed():
    from tpr_jax.core import processes

    processes.join(
      cli.COORDINATOR.value,
      cli.PROCESSES.value,
      cli.PROCESS.value,
      timeout=cli.PEER_TIMEOUT.value,
    )


def _filter() -> int:
  config, _ = cli.config_and_folder()
  if cli.OUT.value is None:
    raise configs.ConfigError("--mode=filter needs --out=DIR, the folder to write to")
  from tpr_jax.filter import settings

  asked = settings.read(config)
  deterministic.ask()
  host_memory.run_in_caller()
  _join()
  from tpr_jax.filter import run

  return run.run(asked, pathlib.Path(cli.OUT.value))


def _of_filter() -> bool:
  """Whether --run is the folder of a filter."""
  from tpr_jax.data import kept

  return bool(cli.RUN.value) and (pathlib.Path(cli.RUN.value) / kept.MANIFEST).is_file()


def _filter_report() -> int:
  from tpr_jax.filter import page

  print(f"Report: {page.write(pathlib.Path(cli.RUN.value))}")
  return 0


def _data_mode(mode: str) -> int:
  from tpr_jax import data_modes

  config, _ = cli.config_and_folder()
  out = pathlib.Path(cli.OUT.value) if cli.OUT.value else None
  if mode == "check":
    return data_modes.check(config, out)
  if out is None:
    raise configs.ConfigError(f"--mode={mode} needs --out=DIR, the folder to write to")
  if mode == "shards":
    made = (cli.RESIZE.value, cli.QUALITY.value, cli.SHARD_MB.value)
    return data_modes.shards(config, out, *made)
  return {"write": data_modes.write, "archive": data_modes.archive}[mode](config, out)


def _export() -> int:
  if cli.OUT.value is None:
    raise configs.ConfigError("--mode=export needs --out=DIR, the folder to write to")
  _, folder = cli.config_and_folder()
  host_memory.run_in_caller()
  from tpr_jax.export import export

  export.export(folder, pathlib.Path(cli.OUT.value), cli.FORMAT.value)
  return 0


def _inspect() -> int:
  _, folder = cli.config_and_folder()
  from tpr_jax import inspect_run  # JAX takes seconds

  step = cli.STEP.value
  show = inspect_run.overview
  print(show(folder) if step is None else inspect_run.step_text(folder, step))
  return 0


def _build_cross() -> int:
  """Neither JAX nor a run is needed."""
  if cli.RUN.value:
    raise configs.ConfigError(
      "--mode=build_cross takes no --run: --out=DIR is its folder"
    )
  config, _ = cli.config_and_folder()
  if cli.OUT.value is None:
    raise configs.ConfigError(
      "--mode=build_cross needs --out=DIR, the folder to write to"
    )
  from tpr_jax.curate import build

  return build.build_cross(config, pathlib.Path(cli.OUT.value))


def _plan() -> int:
  """Neither data nor weights nor a TPU is needed, and none is looked for."""
  config, _ = cli.config_and_folder()
  if not cli.TOPOLOGY.value:
    raise configs.ConfigError(
      "--mode=plan needs --topology, for example --topology=v5e:2x4,v5e:4x4 or cpu:8"
    )
  from tpr_jax.plan import settings

  asked = settings.read(
    cli.TOPOLOGY.value,
    cli.BATCHES.value,
    cli.MICRO_BATCHES.value,
    default_batch=config.data.batch,
    default_micro_batches=config.train.micro_batches,
    assumptions=settings.Assumptions(mfu=cli.MFU.value, overlap=cli.OVERLAP.value),
    classes=cli.CLASSES.value,
    effort=cli.EFFORT.value,
  )
  os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1")
  from tpr_jax.plan import run  # JAX takes seconds

  return run.Plan(
    config, asked, pathlib.Path(cli.OUT.value) if cli.OUT.value else None
  )()


def _profile() -> int:
  config, folder = cli.config_and_folder()
  out = pathlib.Path(cli.OUT.value) if cli.OUT.value else None
  if config.train.get("deterministic", True):
    deterministic.ask()  # as training does: it may be slower
  host_memory.run_in_caller()
  from tpr_jax.profiling import run

  out = out or folder.with_name(f"{folder.name}-profile")
  return run.profile(config, out, cli.PROFILE_STEPS.value)


def _search(mode: str) -> int:
  own = search_flags.indexing if mode == "index" else search_flags.searching
  asked = own(cli.RUN.value)
  host_memory.run_in_caller()
  from tpr_jax.search import run

  return run.index(asked) if mode == "index" else run.search(asked)


def _serve() -> int:
  asked = search_flags.serving(cli.RUN.value)
  host_memory.run_in_caller()
  from tpr_jax.serve import run

  return run.serve(asked)


def _dispatch() -> int:
  mode = cli.MODE.value
  cli.check_flags()
  if mode == "build_cross":
    return _build_cross()
  if mode == "compare":
    return _compare()
  if mode == "eval" and cli.FEATURES.value is not None:
    return _feature_eval()
  if mode == "eval" and cli.MODEL.value is not None:
    return _model_eval()
  if mode == "matrix":
    return _matrix()
  if mode == "filter":
    return _filter()
  if mode == "plan":
    return _plan()
  if mode == "profile":
    return _profile()
  if mode in ("index", "search"):
    return _search(mode)
  if mode == "serve":
    return _serve()
  if mode == "export":
    return _export()
  if mode == "inspect":
    return _inspect()
  if mode in ("check", "write", "archive", "shards"):
    return _data_mode(mode)
  if mode == "sweep":
    return _sweep()
  if mode == "report" and _of_filter():
    return _filter_report()
  experiment = _experiment()
  if mode == "train":
    from tpr_jax import training

    training.run(experiment)
  else:
    {"eval": experiment.evaluate, "report": experiment.report}[mode]()
  return 0


def _for_people(error: Exception) -> bool:
  """Is it one that this package defines? These say what to do, without a traceback."""
  return type(error).__module__.startswith("tpr_jax.")


def _no_room(error: Exception) -> bool:
  return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _lost_peer(error: Exception) -> bool:
  """An error of JAX while several processes run together: one of them is gone."""
  return cli.distributed() and type(error).__name__ == "JaxRuntimeError"


def _told(error: Exception) -> int | None:
  """Prints what an error means to people -> exit status; None: it needs a traceback."""
  if signum := getattr(error, "signum", None):
    print(f"{error}; the same command continues from there.", file=sys.stderr)
    return 128 + signum
  if _for_people(error):
    print(f"error: {error}", file=sys.stderr)
  elif _no_room(error):
    print(
      f"error: no space left to write {error.filename or 'a file'}; make room, and the"
      " same command continues.",
      file=sys.stderr,
    )
  elif _lost_peer(error):
    print(f"error: {supervise.LOST} ({error})", file=sys.stderr)
  else:
    return None
  return 1


def _leave(status: int) -> NoReturn:
  """Ends the process.

  After a signal nothing is waited for that is still under way, such as a compilation.
  After an error, one of several processes does not wait for the others, which may be
  waiting for it: they notice that it is gone. Nor is Orbax waited for: of a save that
  object storage refused, some threads wait ten minutes for others that have failed.
  """
  several = cli.distributed()
  at_once = status == 1 and (several or cli.at_address())
  if status <= 128 and not at_once:
    sys.exit(status)
  if several and not at_once:
    import jax

    jax.distributed.shutdown()  # all leave at the same step: they come here, too
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def main(_) -> None:
  # Orbax, Grain and TFDS tell their inner life through absl; people want the run's.
  if "TPR_JAX_VERBOSE" not in os.environ:
    logging.set_verbosity(logging.ERROR)
  try:
    if cli.distributed():
      supervise.watch()
    host_memory.keep_freed_memory()  # first of all: before any thread starts
    compile_cache.use()
    status = _dispatch()
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    status = 128 + signal.SIGINT
  except Exception as error:
    status = _told(error)
    if status is None:
      if not cli.distributed():
        raise
      traceback.print_exc()
      status = 1
  _leave(status)


if __name__ == "__main__":
  app.run(main, flags_parser=cli.parse_flags)
