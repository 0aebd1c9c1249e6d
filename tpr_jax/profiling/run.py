"""`--mode=profile`: some steps of a training, timed, and traced by JAX's profiler.

The program and the data are those of training, but that texts of all lengths come from
the first step on (text.short_first is 0); no run folder is made and nothing is kept but
the trace and the summary. Steps are timed first and traced afterwards, since a trace
slows them down.
"""

import contextlib
import itertools
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from tpr_jax import ahead, flops, meter, run_folder, training
from tpr_jax import config as configs
from tpr_jax.core import peaks, sharding
from tpr_jax.experiment import Experiment
from tpr_jax.profiling import parts, rate, summary, trace
from tpr_jax.profiling.problems import ProfileError

MODULE = "jit_step"  # train.make_train_step's function
TEXT, NUMBERS = "profile.txt", "profile.json"
_WARM = 2


class Steps(NamedTuple):
  """Some steps: seconds of all, the share that waited for input, their texts' lengths
  and the FLOPs of each, in their order."""

  seconds: float
  input_wait: float
  lengths: list[int]
  work: list[flops.Flops]


def profile(config: ConfigDict, out: pathlib.Path, steps: int) -> int:
  """Writes the trace, profile.txt and profile.json to `out`; -> exit status.

  Raises:
    ProfileError: fewer than one step, a folder of a run, or nothing was traced.
    ConfigError: as training.
  """
  if steps < 1:
    raise ProfileError(f"--profile_steps={steps}: expected 1 or more")
  if (out / "config.json").exists():
    raise ProfileError(f"--out={out} holds a run; give another folder")
  config = config.copy_and_resolve_references().unlock()
  config.text.short_first = 0
  experiment = Experiment(config.lock(), out)
  with configs.errors():
    made = training.Training(experiment)
  with contextlib.closing(made.batches):
    runner = Runner(made)
    with contextlib.closing(runner.step):
      experiment.say(f"{_WARM} steps to begin with, once all is compiled")
      runner.step.wait()  # in the background, where it would take part in the timing
      runner(_WARM)
      experiment.say(f"{steps} steps, timed")
      timed = runner(steps)
      experiment.say(f"{steps} steps, traced")
      out.mkdir(parents=True, exist_ok=True)
      with jax.profiler.trace(str(out), create_perfetto_trace=True):
        traced = runner(steps)
      texts = runner.texts()
  found = _findings(experiment, timed, traced, _spent(out, traced, texts))
  _write(out, found, experiment)
  return 0


class Runner:
  """Runs the next steps of a training whose data has not begun."""

  def __init__(self, made: training.Training):
    self._mesh = made.experiment.mesh
    self._batches = made.batches
    self.step: ahead.CompiledAhead = made.compile_ahead()
    self._key = jax.random.key(made.config.seed)
    self._state = made.first_state()
    self.step.traced()
    self._batches.start_prefetch()
    self._examples = made.config.data.batch
    self._programs: dict[int, Any] = {}

  def __call__(self, steps: int) -> Steps:
    clock, lengths, work = meter.Meter(self._examples), [], []
    batch_sh = sharding.batch_sharding(self._mesh)
    began = time.perf_counter()
    for number in range(steps):
      with jax.profiler.StepTraceAnnotation("train", step_num=number):
        with clock.waiting():
          batch = sharding.to_global(next(self._batches), batch_sh)
        length = batch["text"].shape[1]
        program, found = self.step.program(batch)
        self._programs[length] = program
        self._state, metrics = program(self._state, batch, self._key)
      lengths.append(length)
      work.append(found)
    jax.block_until_ready((self._state, metrics))
    seconds = time.perf_counter() - began
    return Steps(seconds, clock.read(steps)["input_wait"], lengths, work)

  def texts(self) -> dict[int, str]:
    """Length of the texts -> the text of the program for it."""
    return {length: program.as_text() for length, program in self._programs.items()}


class Measured(NamedTuple):
  """Of a trace: time by part, and the share of the time in which a device worked."""

  spent: parts.Spent
  busy: float


def _spent(out: pathlib.Path, traced: Steps, texts: Mapping[int, str]) -> Measured:
  """Raises ProfileError: the trace has no operation of the step."""
  events = trace.read(trace.newest(out), MODULE)
  if not events:
    raise ProfileError(
      f"{out}: the trace has no operations of {MODULE}: this JAX"
      f" ({jax.__version__}) does not tell them on {jax.devices()[0].platform}"
    )
  lengths = list(dict.fromkeys(traced.lengths))
  numbers = trace.programs(events)
  if len(numbers) != len(lengths):
    raise ProfileError(
      f"{out}: the trace has {len(numbers)} programs, but {len(lengths)} ran (texts of"
      f" {', '.join(map(str, lengths))} tokens): their operations cannot be told apart."
      " --config.text.buckets=() has one program"
    )
  # Programs first ran in the order of the steps.
  known = {
    number: parts.of_program(texts[length])
    for number, length in zip(numbers, lengths, strict=True)
  }
  busy = trace.busy(events)
  return Measured(
    parts.spent(events, known), sum(busy.values()) / len(busy) / traced.seconds
  )


def _findings(
  experiment: Experiment, timed: Steps, traced: Steps, measured: Measured
) -> dict[str, Any]:
  """Plain JSON; times and work are of one step."""
  config, steps = experiment.config, len(timed.lengths)
  dtype = experiment.fields["dtype"]
  matrix_rate, size = rate.measure(dtype)
  kind = jax.devices()[0].device_kind
  ran = len(traced.lengths)
  forward, backward = (
    {name: seconds / ran for name, seconds in side.items()}
    for side in measured.spent[:2]
  )
  return dict(
    config=config.name,
    steps=steps,
    batch=config.data.batch,
    devices=jax.device_count(),
    device=kind,
    dtype=dtype,
    surroundings=run_folder.surroundings(experiment.mesh),
    seconds_a_step=timed.seconds / steps,
    seconds_traced=traced.seconds / ran,
    input_wait=timed.input_wait,
    busy=measured.busy,
    lengths=_counts(timed.lengths),
    flops=_work(timed.work),
    matrix_rate=matrix_rate,
    matrix_size=size,
    peak=peaks.bfloat16(kind) if dtype == "bfloat16" else None,
    forward=forward,
    backward=backward,
    operations=[
      dict(name=name, stack=stack, seconds=seconds / ran)
      for (name, stack), seconds in itertools.islice(
        measured.spent.operations.items(), 100
      )
    ],
  )


def _counts(lengths: Sequence[int]) -> dict[str, int]:
  return {str(length): lengths.count(length) for length in sorted(set(lengths))}


def _work(work: Sequence[flops.Flops]) -> dict[str, Any]:
  """FLOPs of a step, in the mean: of the model, again, and by part."""
  by_part: dict[str, float] = {}
  for one in work:
    for side in (one.forward, one.backward):
      for name, found in side.items():
        by_part[name] = by_part.get(name, 0) + found / len(work)
  again = sum(one.again for one in work) / len(work)
  return dict(model=sum(by_part.values()), again=again, parts=by_part)


def _write(out: pathlib.Path, found: Mapping[str, Any], experiment: Experiment) -> None:
  text = "\n".join(summary.lines(found))
  (out / TEXT).write_text(text + "\n", encoding="utf-8")
  (out / NUMBERS).write_text(json.dumps(found, indent=1), encoding="utf-8")
  folder = trace.newest(out).parent
  experiment.say(
    f"\n{text}\n\nTrace: {folder}/perfetto_trace.json.gz (ui.perfetto.dev opens it), or"
    f" tensorboard --logdir={out} with tensorboard-plugin-profile"
  )
