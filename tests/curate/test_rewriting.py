"""Texts from an endpoint: asked once, checked, reviewed, resumed."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.curate import fake
from tests.curate.place import edit, files, lines, load
from tests.test_main import ROOT
from tpr_jax import encoding, evaluate
from tpr_jax.curate import build
from tpr_jax.curate.problems import CurateError
from tpr_jax.data import build as data
from tpr_jax.data.damage import Damage

MODE = "--mode=build_cross"


def test_every_caption_is_rewritten_and_told_apart(tmp_path):
  with fake.Server() as server:
    assert build.build_cross(files(tmp_path, server), tmp_path / "out") == 0
  made = load(tmp_path / "out")
  assert len(server.payloads) == 2 * 14
  for record in made.records:
    original, *rewritten = record.truth["caption_truth"]
    assert original == dict(written_by="original", rewrite="none", of=0)
    assert [t["rewrite"] for t in rewritten] == ["reorganised", "shorter"]
    assert {t["written_by"] for t in rewritten} == {"tiny"}
    assert len(set(record.captions)) == 3
    assert all(text.startswith("In this one, ") for text in record.captions[1:])
  card = (tmp_path / "out" / "dataset" / "README.md").read_text()
  assert "| icfg_pedes | icfg_pedes/test | 4 of 4 | 8 | 8 | 16 |" in card
  assert "`tiny` (endpoint, served as tiny-1" in card and "| clean | 28 |" in card
  for answer in lines(tmp_path / "out" / "answers.jsonl"):
    assert answer["messages"][1]["content"].endswith(answer["caption"])
    assert answer["model"] == "tiny" and answer["answer"]["model"] == "tiny-1"
    assert time.strptime(answer["time"], "%Y-%m-%dT%H:%M:%SZ")


def test_scores_are_told_apart_by_source_and_by_writer(tmp_path):
  with fake.Server() as server:
    build.build_cross(files(tmp_path, server), tmp_path / "out")
  made = load(tmp_path / "out")
  queries = [(i, j) for i, r in enumerate(made.records) for j in range(len(r.captions))]
  rng = np.random.default_rng(0)
  image = rng.normal(size=(len(made.records), 8)).astype(np.float32)
  image /= np.linalg.norm(image, axis=1, keepdims=True)
  record, caption = np.array(queries, np.int32).T
  # Texts of the first source find their image; those of the second its opposite.
  sign = [1 if r.truth["source"] == "icfg_pedes" else -1 for r in made.records]
  features = encoding.Features(
    image=image,
    image_record=np.arange(len(image), dtype=np.int32),
    text=image[record] * np.array(sign, np.float32)[record, None],
    text_record=record,
    text_caption=caption,
    damage=Damage("cross/test", len(made.records)),
  )
  entry = experiment_config(tmp_path).evals.cross
  assert entry.group_by == "source"
  groups = {
    key: evaluate.score(features, made, group_by=key).scores["groups"]
    for key in ("source", "written_by", "rewrite")
  }
  source = groups["source"]
  assert (
    source["source=icfg_pedes"]["R1"] == 100.0 and source["source=other"]["R1"] == 0
  )
  assert {n: g["queries"] for n, g in groups["written_by"].items()} == {
    "written_by=original": 14,
    "written_by=tiny": 28,
  }
  assert len(groups["rewrite"]) == 3


def experiment_config(tmp_path):
  """The config of a run that is also asked about the new set, and its dataset."""
  place = tmp_path / "out" / build.DATASET
  read = fake.config(value=f"configs/cfam.py:rendered,cross={place}")
  entry = read.evals.cross
  asked = data.dataset(entry.name, entry.root, entry.split, entry.options)
  assert asked == load(tmp_path / "out")
  return read


def test_nothing_is_asked_twice(tmp_path):
  out = tmp_path / "out"
  with fake.Server() as server:
    build.build_cross(files(tmp_path, server), out)
    first, asked = load(out).records, len(server.payloads)
    build.build_cross(files(tmp_path, server), out)
    assert len(server.payloads) == asked and load(out).records == first
    # One more style: only the new questions.
    build.build_cross(files(tmp_path, server, rewrites=3), out)
    assert len(server.payloads) == asked * 3 // 2
    # Another sampling is another question.
    build.build_cross(files(tmp_path, server, "rewriters.first.seed=8"), out)
    assert len(server.payloads) == asked * 5 // 2


@pytest.mark.parametrize("answer", [fake.good, fake.other])
def test_two_models_write_as_the_paper_had_it(tmp_path, answer):
  fake.people(tmp_path / "one", count=2)
  words = [f"sources.icfg_pedes.root={tmp_path / 'one'}", "text.tokenizer=people"]
  value = "configs/cross.py:sources=icfg_pedes,rewriters=2"
  with fake.Server() as a, fake.Server(rest=answer) as b:
    for name, server in (("first", a), ("second", b)):
      words.append(f"rewriters.{name}.model={name}")
      words.append(f"rewriters.{name}.base_url={server.url}")
    config = fake.config(*words, "rewrites=1", value=value)
    build.build_cross(config, tmp_path / "out")
    assert (len(a.payloads), len(b.payloads)) == (4, 4)
  card = (tmp_path / "out" / "dataset" / "README.md").read_text()
  # The same words from both: the later ones are left out, and counted.
  same = answer is fake.good
  assert f"same words on the same image: {4 if same else 0}." in card
  for record in load(tmp_path / "out").records:
    by = [truth["written_by"] for truth in record.truth["caption_truth"]]
    assert by == ["original", "first"] + ["second"] * (not same)


def test_what_fails_for_one_caption_is_asked_again_next_time(tmp_path, capsys):
  out = tmp_path / "out"
  with fake.Server(fake.good, fake.error(400, "too long")) as server:
    words = ["rewriters.first.concurrency=1"]
    assert build.build_cross(files(tmp_path, server, *words, rewrites=1), out) == 1
    assert "too long" in capsys.readouterr().out
    assert sum(len(r.captions) for r in load(out).records) == 14 + 13
    assert build.build_cross(files(tmp_path, server, *words, rewrites=1), out) == 0
  assert len(server.payloads) == 15


@pytest.mark.parametrize(
  ("script", "message", "asked"),
  [
    ([fake.error(401, "no key")] * 99, "no key", 1),
    ([fake.error(400, "no such field")] * 99, "no such field", 5),
  ],
)
def test_what_holds_for_all_ends_the_build(tmp_path, script, message, asked):
  with fake.Server(*script) as server:
    config = files(tmp_path, server, "rewriters.first.concurrency=1")
    with pytest.raises(CurateError, match=message):
      build.build_cross(config, tmp_path / "out")
  # The thread may have started one more before it was told.
  assert asked <= len(server.payloads) <= asked + 1


# ---- review


BAD = fake.said("I'm sorry, I cannot describe people.")


def test_flagged_answers_wait_for_a_person(tmp_path, capsys):
  out, review = tmp_path / "out", tmp_path / "out" / "review.jsonl"
  one = "rewriters.first.concurrency=1"
  with fake.Server(BAD, BAD, BAD, BAD, fake.said("")) as server:
    config = functools.partial(files, tmp_path, server, one, rewrites=1)
    build.build_cross(config(), out)
    told = capsys.readouterr().out
    assert "9 clean, 5 waiting" in told and "review.jsonl" in told
    rows = lines(review)
    assert len(rows) == 5 and "refusal" in rows[0]["flags"]
    assert rows[0]["original"] == load(out).records[0].captions[0]
    assert rows[0]["image"].startswith("icfg_pedes/imgs/test/")
    count = lambda: sum(len(r.captions) for r in load(out).records)
    assert count() == 14 + 9
    said = iter(["accept", "reject", "replace", "", "replace"])
    words = "A man is in  a red coat, as a person wrote it."

    def decide(row):
      decision = next(said)
      text = words if decision == "replace" else ""
      # A text alone means replace.
      return row | dict(decision=decision if row != rows[4] else "", text=text)

    edit(review, decide)
    review.write_text(review.read_text("utf-8").rstrip("\n"), "utf-8")  # an editor's
    build.build_cross(config(), out)
  assert count() == 14 + 9 + 3 and len(server.payloads) == 14
  records = load(out).records
  assert records[0].captions[1] == "I'm sorry, I cannot describe people."
  assert records[2].captions[1] == "A man is in a red coat, as a person wrote it."
  assert records[2].truth["caption_truth"][1]["written_by"] == "a person"
  assert len(records[1].captions) == len(records[3].captions) == 1
  assert len(lines(review)) == 5  # nothing new, and nothing of the person's is lost
  card = (out / "dataset" / "README.md").read_text()
  for row in ("| accepted | 1 |", "| replaced | 2 |", "| rejected | 1 |"):
    assert row in card
  assert "| waiting | 1 |" in card and "| refusal | 4 |" in card


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("{half", "line 2: no JSON object"),
    ("[1]", "line 2: no JSON object"),
    ('{"decision": "accept"}', "line 2: no JSON object"),
    ('{"key": "a", "decision": "yes"}', "decision 'yes', expected accept, reject"),
    ('{"key": "a", "decision": "replace"}', "'replace' without the words"),
    ('{"key": "a", "decision": "reject", "text": "A man."}', "a text is given"),
    ('{"key": "k"}', "the same key is there twice"),
  ],
)
def test_a_broken_review_names_its_line_before_anything_is_asked(
  tmp_path, row, message
):
  out = tmp_path / "out"
  out.mkdir()
  (out / "review.jsonl").write_text(f'{{"key": "k"}}\n{row}\n')
  with fake.Server() as server:
    with pytest.raises(CurateError, match="line 2") as caught:
      build.build_cross(files(tmp_path, server), out)
    assert server.payloads == []
  assert message in str(caught.value)


# ---- interruptions


def test_half_a_line_at_the_end_is_asked_again_and_damage_is_named(tmp_path):
  out = tmp_path / "out"
  with fake.Server() as server:
    build.build_cross(files(tmp_path, server), out)
    path = out / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    build.build_cross(files(tmp_path, server), out)
    assert len(server.payloads) == 29 and len(lines(path)) == 28
    path.write_bytes(whole[:50] + b"\xff\n" + whole[50:])
    with pytest.raises(CurateError, match="line 1 is no answer"):
      build.build_cross(files(tmp_path, server), out)


def start(folder, out, config, *, env=None):
  """`--mode=build_cross` as a process of its own."""
  file = folder / "mine.py"
  text = config.to_json()
  file.write_text(
    "import json\nfrom ml_collections import ConfigDict\n"
    f"def get_config():\n  return ConfigDict(json.loads({text!r}))\n"
  )
  words = [sys.executable, "-m", "tpr_jax.main", MODE, f"--config={file}"]
  return subprocess.Popen(
    [*words, f"--out={out}"],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def wait_for(condition):
  until = time.monotonic() + 240
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_point_and_continued(tmp_path, signum):
  out = tmp_path / "out"
  answers = out / "answers.jsonl"
  with fake.Server(delay=0.3) as server:
    config = files(tmp_path, server, "rewriters.first.concurrency=2")
    child = start(tmp_path, out, config)
    wait_for(lambda: answers.exists() and answers.read_bytes().count(b"\n") >= 4)
    child.send_signal(signum)
    _, told = child.communicate(timeout=240)
    kept = lines(answers)
    asked = len(server.payloads)
    assert 4 <= len(kept) < 28 and not (out / "dataset").exists()
    if signum != signal.SIGKILL:
      assert child.returncode == 128 + signum, told
      assert f"stopped by {signal.Signals(signum).name}; {len(kept)} answers" in told
      assert "the same command continues" in told and "Traceback" not in told
      assert len(kept) == asked  # what was on its way was waited for
    server.delay = 0.0
    build.build_cross(config, out)
    # At most what was on its way at the kill is asked again.
    assert len(server.payloads) <= 28 + (asked - len(kept)) <= 28 + 2
  assert lines(answers)[: len(kept)] == kept
  assert len({row["key"] for row in lines(answers)}) == 28
  with fake.Server() as server:
    build.build_cross(files(tmp_path, server), tmp_path / "straight")
  texts = [sorted(r.captions) for r in load(out).records]
  assert texts == [sorted(r.captions) for r in load(tmp_path / "straight").records]


def test_a_second_build_in_the_same_folder_is_refused(tmp_path):
  out = tmp_path / "out"
  with fake.Server(*[fake.hang] * 99) as server:
    config = files(tmp_path, server, "rewriters.first.concurrency=1")
    child = start(tmp_path, out, config)
    wait_for(lambda: server.payloads)
    with pytest.raises(CurateError, match="another build is at work"):
      build.build_cross(config, out)
    child.send_signal(signal.SIGTERM)
    time.sleep(1)
    child.send_signal(signal.SIGTERM)  # the second one does not wait
    _, told = child.communicate(timeout=240)
  assert child.returncode == 128 + signal.SIGTERM and "Traceback" not in told
