"""The layer rule: a file imports its own folder and lower layers, nothing else."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYER = dict(
  core=0,
  ops=1,
  losses=2,
  metrics=2,
  models=2,
  data=2,
  config=2,
  flops=1,
  meter=2,
  bad_data=3,
  convert=3,
  dual_masking=3,
  attribute_stream=3,
  cross_objective=3.2,
  score_table=3.5,
  word_scores=4,
  objectives=3.5,
  optim=3,
  freezing=3,
  seal=2,
  checkpoints=3,
  run_folder=3,
  groups=3,
  feature_files=3.5,
  rankings=3,
  saliency_files=3,
  localise_files=3,
  word_files=3,
  eval_data=3,
  compare=6,
  run_weights=4,
  initial=5,
  cross_initial=5,
  adapter_files=5.5,
  inspect_run=5,
  pretrained=5,
  paired=5.2,
  loading=6,
  run_log=3,
  ahead=4,
  gradients=4,
  train=4,
  program=5,
  second_stage=3,
  encoding=3.5,
  evaluate=4,
  pair_scores=4,
  calibrate=4,
  calibration_files=3,
  two_stage=5,
  saliency=5,
  localise=5,
  report=5,
  entries=5.5,
  export=7,
  data_modes=5,
  experiment=6,
  feature_eval=6,
  sweep=6,
  curate=6,
  training=7,
  weights_id=5,
  model_eval=7,
  matrix=8,
  filter=8,
  detect=6,
  search=8,
  serve=8.2,
  search_flags=8.5,
  plan=8,
  profiling=8.5,
  cli=9,
  compile_cache=9,
  supervise=9,
  main=10,
)


def imports(path: pathlib.Path):
  """(imported module below tpr_jax, source text) of each import in a file."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tpr_jax"):
      for alias in node.names:
        yield (f"{node.module}.{alias.name}").split(".")[1]
    if isinstance(node, ast.Import):
      for alias in node.names:
        if alias.name.startswith("tpr_jax."):
          yield alias.name.split(".")[1]


def files():
  found = [p for p in (ROOT / "tpr_jax").rglob("*.py") if p.name != "__init__.py"]
  assert len(found) > 30
  return found


def test_imports_point_down():
  for path in files():
    me = path.relative_to(ROOT / "tpr_jax").with_suffix("").parts[0]
    for dependency in imports(path):
      assert dependency == me or LAYER[dependency] < LAYER[me], f"{path}: {dependency}"


def test_losses_and_data_stay_apart():
  for path in files():
    me = path.relative_to(ROOT / "tpr_jax").with_suffix("").parts[0]
    text = path.read_text(encoding="utf-8")
    if me == "data":
      assert "import jax" not in text and "from jax" not in text, path
      assert not set(imports(path)) - {"data"}, path
    if me in ("losses", "models"):
      allowed = {"core", me} | ({"ops"} if me == "models" else set())
      assert set(imports(path)) <= allowed, path


def test_init_files_are_empty():
  package = ROOT / "tpr_jax" / "__init__.py"
  for path in (ROOT / "tpr_jax").rglob("__init__.py"):
    assert path == package or path.read_text() == "", path
  docstring, *rest = ast.parse(package.read_text(encoding="utf-8")).body
  assert isinstance(docstring, ast.Expr)
  assert [(type(node), node.name) for node in rest] == [(ast.FunctionDef, "load")]


def test_the_package_is_imported_without_jax():
  code = "import sys, tpr_jax; print('jax' in sys.modules, 'numpy' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["False", "False"]


def test_core_needs_neither_torch_nor_tensorflow():
  for path in files():
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
      alias.name.split(".")[0]
      for node in ast.walk(tree)
      if isinstance(node, ast.Import)
      for alias in node.names
    } | {
      (node.module or "").split(".")[0]
      for node in ast.walk(tree)
      if isinstance(node, ast.ImportFrom)
    }
    assert not names & {"torch", "tensorflow"}, path
