"""The benchmark suite's own parts: goals, table, turns, and what it leaves out."""

import sys

import jax
import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import steps, suite
from tests.benchmarks.rows import growth, start, train
from tpr_jax import program


def row(values=(), **fields):
  return suite.Row("a/b", "what", "1 ms", values=values, **fields)


@pytest.mark.parametrize(
  "values, goal, most, met",
  [
    ((1.0, 1.2, 5.0), 1.2, False, True),
    ((1.0, 1.1, 5.0), 1.2, False, False),
    ((1.0, 1.9, 5.0), 2.0, True, True),
    ((2.0, 2.0, 2.0), 2.0, True, False),
    ((), 1.2, False, None),
    ((1.0,), 0.0, False, None),
  ],
)
def test_the_median_meets_a_goal_or_not(values, goal, most, met):
  assert row(values, goal=goal, most=most).met is met


def test_the_table_shows_median_range_and_goal():
  lines = suite.table([row((1.0, 3.0, 2.0), goal=1.5), row()]).split("\n")
  assert len({len(line) for line in lines}) == 1
  assert [c.strip() for c in lines[0].split("|")[1:-1]] == suite.HEADER
  cells = [c.strip() for c in lines[2].split("|")[1:-1]]
  assert cells == [
    *("a/b", "what", "1 ms", "-", "2.00 x", "1.00 to 3.00", "-", ">= 1.5 x", "yes")
  ]


def test_sides_take_turns_and_who_is_first_changes(capsys):
  called = []

  def side(name):
    return lambda: called.append(name) or np.array([len(called), 0.0])

  found = steps.in_turn({name: side(name) for name in "ab"}, 3)
  assert called == list("baabba")
  assert found["a"][:, 0].tolist() == [2, 3, 6]
  assert found["b"][:, 0].tolist() == [1, 4, 5]
  assert capsys.readouterr().out.count("round") == 3


def test_the_power_of_a_growth():
  sizes = np.array([10, 20, 40])
  assert growth.power(sizes, 3.0 * sizes**1.5) == pytest.approx(1.5)


def test_captions_are_sorted_by_length_and_none_is_cut():
  texts = train.captions()
  words = np.array([len(text.split()) for text in texts])
  assert 22.5 < words.mean() < 24.5  # those of CUHK-PEDES have 23.5
  chosen, share = train.by_length(texts, (32, 48), 168, batch=3)
  assert sum(share.values()) == pytest.approx(1.0) and set(share) == set(chosen)
  for length, ids in chosen.items():
    assert ids.shape == (3, length)
    assert (ids.max(1) == steps.CLIP.end_id).all()  # the end is there
  assert (chosen[48][:, 32:] > 0).any() and min(chosen) == 32


@pytest.mark.parametrize(
  "words", [["--only=train,trian"], ["--rounds=0"], ["--size=huge"]]
)
def test_unknown_rows_sizes_and_counts_are_refused(words, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
  with pytest.raises(SystemExit):
    command.parse()
  assert words[0].split("=")[0] in capsys.readouterr().err


def test_every_row_has_a_module():
  for name in command.ROWS:
    module = __import__(f"tests.benchmarks.rows.{name}", fromlist=["rows"])
    assert callable(module.rows) and module.__doc__


def test_what_needs_torch_is_named_where_there_is_none(monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  for name in ("train", "gpu", "embed", "input", "memory"):
    (found,) = command.measure(name, suite.Options("tiny"))
    assert found.met is None and "not measured: PyTorch" in found.ours


def test_a_gpu_is_asked_for_before_anything_runs():
  pytest.importorskip("torch")
  (found,) = command.measure("gpu", suite.Options("tiny"))
  assert found.ours == "not measured: JAX finds no GPU"


def test_the_first_step_is_read_from_what_the_command_says(monkeypatch):
  said = "print('compiling'); print('step 1/9  loss 2', flush=True); input()"
  monkeypatch.setattr(start, "COMMAND", (sys.executable, "-c", said))
  assert start.first_step("there", "cache") > 0


def test_a_command_that_ends_before_its_first_step_is_an_error(monkeypatch):
  monkeypatch.setattr(start, "COMMAND", (sys.executable, "-c", "print('no data')"))
  with pytest.raises(RuntimeError, match="no data"):
    start.first_step("there", "cache")


def test_the_peak_of_storages():
  torch = pytest.importorskip("torch")
  from tests.benchmarks.pytorch import peak

  def make():
    x = torch.zeros(1000)

    def step():
      a = x + 1  # 4,000 bytes
      b = a + 1
      del a
      c = b.view(10, 100)  # the same storage
      return c + 1

    return step, [x]

  assert peak.of_step(make) == 8000
  step, before = make()
  with peak.Peak() as found:  # the same of tensors that are there
    found.known(before)
    step()
  assert (found.most, found.now) == (8000, 0)


def test_the_pytorch_pipeline_augments_as_the_recipe_says(tmp_path):
  torch = pytest.importorskip("torch")
  from PIL import Image

  from tests.benchmarks.pytorch import loader
  from tpr_jax.data.op import CLIP_MEAN, CLIP_STD

  path = tmp_path / "1.png"
  Image.new("RGB", (50, 90), (255, 255, 255)).save(path)
  pairs = loader.Pairs([str(path)], np.ones((1, 5), np.int64), (60, 24))
  white, black, mean = (
    (torch.tensor(v) - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    for v in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), CLIP_MEAN)
  )
  assert not mean.any()
  seen = [pairs[0]["image"] for _ in range(40)]
  colours = torch.cat([x.permute(1, 2, 0).reshape(-1, 3) for x in seen])
  near = [(colours - c).abs().max(1).values < 1e-5 for c in (white, black)]
  box = (colours - torch.tensor(CLIP_MEAN)).abs().max(1).values < 1e-5
  assert (near[0] | near[1] | box).all()  # the picture, the border, a box
  assert all(part.any() for part in (*near, box))
  assert seen[0].shape == (3, 60, 24) and seen[0].dtype == torch.float32


def test_the_work_of_a_step():
  from tests.benchmarks import sizes
  from tests.benchmarks.rows import gpu

  config = sizes.config("tiny")
  config.data.batch = 4
  built, mesh = steps.build(config, classes=100)

  class Given:
    state, key = built.plan.shapes, jax.random.key(0)
    batch = program.batch_shapes(config, mesh)[0]

  Given.built = built
  # Forward and backward of the towers' blocks alone, 2 x 3 for each weight and token.
  blocks = 12 * 64 * 64 * 2
  least = 6 * blocks * 4 * (1 + 6 * 2 + config.text.length)
  assert least < gpu.step_flops(Given) < 2.5 * least


def test_the_loop_is_timed_between_two_lines_of_its_log(tmp_path):
  """Whatever step the state is at, one line of the log is in what is timed."""
  from tests import tiny
  from tests.benchmarks.rows import overhead
  from tpr_jax.core import sharding
  from tpr_jax.core.types import TrainState

  class Given:
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    state = TrainState(step=np.int32(7), params={}, opt_state=())
    batch = tiny.batch(4)

  def step(state, batch, key):
    metrics = dict.fromkeys(("loss", "grad_norm", "lr", "replaced"), np.float32(1))
    return state.replace(step=state.step + 1), metrics

  for ends in (101, 201):
    found = overhead.looped(Given, step, tmp_path)
    assert found.shape == (2,) and (found > 0).all()
    assert int(Given.state.step) == ends
  assert (tmp_path / "metrics.jsonl").read_text().count('"kind": "train"') == 6
