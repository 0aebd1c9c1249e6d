"""An interpreter that makes a `.venv` without packages, and is the program in it.

The program counts in the file `--run` up to `--steps`, one step every twentieth second;
TERM saves and leaves with 143. With `--fail` its exit status is 3. Every host adds its
arguments, where it starts from, and JAX_PLATFORMS to the file `--run`.starts.
"""

import os
import pathlib
import shutil
import signal
import sys
import time


def save(run, step):
  """At once or not at all: tests kill the program at any moment."""
  written = run.with_suffix(".writing")
  written.write_text(str(step))
  written.replace(run)


def program(words):
  flags = dict(word[2:].partition("=")[::2] for word in words)
  run, steps = pathlib.Path(flags["run"]), int(flags["steps"])
  host = pathlib.Path.home().name
  run = run.with_name(f"{run.name}-{host}")
  step = int(run.read_text()) if run.exists() else 0
  caught = []
  signal.signal(signal.SIGTERM, lambda *_: caught.append(1))
  with run.with_suffix(".starts").open("a") as starts:
    starts.write(f"{words} from {step} on {os.environ.get('JAX_PLATFORMS')}\n")
  end = time.monotonic() + 120  # no test takes as long: nothing is left behind by one
  while step < steps and not caught and time.monotonic() < end:
    time.sleep(0.05)
    step += 1
    if "fail" in flags and step == 10:
      print("something is wrong")
      return 3
    save(run, step)
  print(f"host {host}: {'stopped' if caught else 'finished'} at {step}")
  return 143 if caught else 0


def main(words):
  if words[:1] == ["-c"]:  # is it one of the supported versions?
    return 0
  if words[:2] == ["-m", "venv"]:
    there = pathlib.Path(words[2], "bin", "python")
    there.parent.mkdir(parents=True)
    shutil.copy(os.environ["TPR_JAX_PYTHON"], there)
    return 0
  if words[:3] == ["-m", "pip", "install"]:
    known = (
      words[-1] in (".", ".[tpu]", ".[cuda]") and pathlib.Path("setup.cfg").exists()
    )
    return 0 if known else 1
  assert words[-1:] and "tpr_jax.main" in words[:3], words
  return program(words[words.index("tpr_jax.main") + 1 :])


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
