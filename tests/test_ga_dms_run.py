"""GA-DMS from end to end: a tiny run with a table of scores, stopped and continued."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from tests import small_run, tiny
from tpr_jax import training, word_files
from tpr_jax.core import tree
from tpr_jax.experiment import Experiment
from tpr_jax.meter import CLOCK
from tpr_jax.train import Interrupted

KINDS = ("gass", "grad_eclip", "cosine", "random")


def config(preset):
  c = small_run.config(f"configs/ga_dms.py:rendered,preset={preset}").unlock()
  del c.evals["transfer"], c.evals["test_coarse"]
  c.text.tokenizer = "people"
  c.text.buckets, c.text.short_first = (), 0  # one program to compile
  c.objective.dual.score_layers = tiny.FIELDS["text_layers"]
  c.objective.dual.gass_heads = 0
  c.eval.word_scores.captions, c.eval.saliency, c.eval.ci_resamples = 12, 0, 0
  return c.lock()


def lines(folder, kind):
  with (folder / "metrics.jsonl").open() as file:
    found = [json.loads(line) for line in file]
  return [
    {k: v for k, v in line.items() if k not in CLOCK}
    for line in found
    if line["kind"] == kind
  ]


def state(folder):
  place = folder / "checkpoints" / str(small_run.STEPS) / "state"
  return ocp.StandardCheckpointer().restore(place.absolute())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A finished run of the code's preset, with its report."""
  folder = tmp_path_factory.mktemp("runs") / "straight"
  training.run(Experiment(config("code"), folder))
  return folder


@pytest.mark.proof
def test_stopped_and_gone_on_with_ends_with_the_same_bytes(
  straight, tmp_path, monkeypatch
):
  """Scores of words and the masks drawn by them included."""
  small_run.stop_at(5, monkeypatch)
  with pytest.raises(Interrupted, match="SIGTERM after step 5"):
    training.run(Experiment(config("code"), tmp_path / "stopped"))
  training.run(Experiment(config("code"), tmp_path / "stopped"))
  expected, found = state(straight), state(tmp_path / "stopped")
  assert tree.names(found) == tree.names(expected)
  for name, a, b in zip(
    tree.names(found), jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name
  first = np.float16(0.85)
  assert (np.asarray(found["scores"]) != first).any()  # captions were seen
  assert (np.asarray(found["scores"])[12:] == first).all()  # and no others
  for kind in ("train", "val", "words"):
    assert lines(tmp_path / "stopped", kind) == lines(straight, kind) != []


def test_the_log_says_how_much_is_hidden_and_how_wrong_words_are_found(straight):
  for line in lines(straight, "train"):
    assert 0 <= line["noise_hidden"] < 0.5 and 0 < line["words_hidden"] < 0.6
  words = lines(straight, "words")
  assert [line["step"] for line in words] == [3, 6]
  for line in words:
    assert line["wrong_tokens"] > 10 and line["right_tokens"] > 10
    assert all(0 <= line[f"auc_{kind}"] <= 1 for kind in KINDS)


def test_the_words_of_every_validation_are_kept_and_shown(straight):
  assert word_files.steps(straight) == [3, 6]
  found = word_files.read(word_files.path(straight, 6))
  assert found.kinds == KINDS and found.data == "rendered/train"
  assert len(found.captions) == 12
  assert sum(one.wrong.sum() for one in found.captions) > 5
  scores = np.concatenate([one.scores for one in found.captions], axis=1)
  assert scores.min() >= 0 and scores.max() <= 1
  page = (straight / "report.html").read_text()
  assert "Words and their scores" in page
  assert (straight / "report" / "words.png").stat().st_size > 10_000


@pytest.mark.proof
def test_a_table_is_kept_only_where_it_is_read_and_a_run_may_have_no_test(
  tmp_path, capsys
):
  c = config("default").unlock()
  c.eval.word_scores.captions = 0
  c.evals = ConfigDict()  # as pre-training without transfer_root has it
  training.run(Experiment(c.lock(), tmp_path / "run"))
  assert "No test is named in config.evals" in capsys.readouterr().out
  assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
  assert not (tmp_path / "run" / "results.json").exists()
  assert (
    "scores" not in state(tmp_path / "run") or state(tmp_path / "run")["scores"] is None
  )
  assert not lines(tmp_path / "run", "words")
  assert not word_files.steps(tmp_path / "run")


def test_asking_for_words_in_a_way_that_cannot_be_is_said(tmp_path):
  c = config("default").unlock()
  c.eval.word_scores.kinds = ("gas",)
  with pytest.raises(Exception, match=r"eval\.word_scores.*gass"):
    training.run(Experiment(c.lock(), tmp_path / "run"))
