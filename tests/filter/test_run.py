"""The mode: scores once, resumes, cuts again, and leaves the input alone."""

import hashlib
import json
import pathlib

import jax
import numpy as np
import pytest

from tests import tiny
from tests.filter import place
from tests.models import weights
from tpr_jax.data import build, kept
from tpr_jax.data import tokenizer as tokenizers
from tpr_jax.data.damage import BadData
from tpr_jax.filter import rule, run, scorers, towers
from tpr_jax.filter.problems import FilterError
from tpr_jax.pretrained import Pretrained


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  place.write_pedes(folder, missing=(13,), again=(4, 5))
  return folder


def read(root):
  return build.dataset("pedes_json", root, "train", {})


def slow(root, header):
  """{(image, caption sha1): c} by the rule, of the pairs that can be read."""
  scorer, data = place.Scorer(), read(root)
  pairs = [(r, t) for r in data.records for t in r.captions]
  drawn = np.random.default_rng([0, 0xF117E2]).choice(len(pairs), 30)
  pool = [pairs[i] for i in drawn]
  found = {}
  for record, text in pairs:
    if "013" in record.image:
      continue
    pixels = scorer.prepare(data.load_image(record, None))
    image = scorer.encode_images([pixels])[0].astype(float)
    score = lambda t, image=image: (image @ scorer.encode_texts([t])[0]).max()
    c = 0
    for other, said in pool:
      own = other.image == record.image and said == text
      same = other.identity == record.identity
      skip = (own and header["exclude_self"]) or (same and header["exclude_same_id"])
      c += not skip and (own or score(said) >= score(text))
    found[record.image, kept.caption_sha1(text)] = c
  return found


@pytest.mark.parametrize("excluded", [None, False], ids=["excluded", "published"])
def test_every_pair_is_judged_by_the_rule(
  root, tmp_path, monkeypatch, capsys, excluded
):
  before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
  place.use(monkeypatch, place.Scorer())
  fields = dict(pool__exclude_self=excluded, pool__exclude_same_id=excluded)
  header, lines = place.filtered(place.pedes(root, **fields), tmp_path / "out")
  assert header["pool"]["exclude_self"] is (excluded is None)
  assert (header["k"], header["pool"]["seed"], header["pool"]["size"]) == (12, 0, 30)
  assert header["pairs"] == len(lines) == 42
  expected = slow(root, header["pool"])
  for line in lines:
    key = line["image"], line["caption_sha1"]
    if key not in expected:
      assert "013" in line["image"]
      assert (line["s0"], line["c"], line["keep"]) == (None, None, False)
      continue
    assert line["c"] == expected[key] and line["keep"] == (line["c"] < 12)
  assert header["kept"] == sum(line["keep"] for line in lines) > 5
  # Where each stands in the file; of a pair that stands there twice, the first place.
  entries = json.loads((root / "cuhk_train.json").read_text())
  for line in lines:
    entry = entries[line["index"]]
    assert line["file"] == "cuhk_train.json" and entry["image"] == line["image"]
    assert kept.caption_sha1(entry["caption"]) == line["caption_sha1"]
    assert entry["image_id"] == line["image_id"]
  said = capsys.readouterr().out
  assert "Pictures that cannot be read: 1." in said and "cam/013.png" in said
  assert "2 pairs are listed more than once" in said
  problems = json.loads((tmp_path / "out" / "problems.json").read_text())
  assert list(problems["found"]["missing"]) == ["cam/013.png"]
  assert problems["duplicated_pairs"] == 2
  assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_the_kept_set_reads_back_through_the_source(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer())
  _, lines = place.filtered(place.pedes(root), tmp_path / "out")
  images = dict(images=str(root / "CUHK-PEDES" / "imgs"))
  made = build.dataset("pedes_json", tmp_path / "out" / "kept", "train", images)
  found = {(r.image, kept.caption_sha1(t)) for r in made.records for t in r.captions}
  assert found == {(r["image"], r["caption_sha1"]) for r in lines if r["keep"]}
  assert made.load_image(made.records[0], None).shape == (8, 4, 3)
  # The same pairs as the data option leaves for training.
  left = kept.filtered(read(root), str(tmp_path / "out"))
  assert [(r.image, r.captions, r.identity) for r in left.records] == [
    (r.image, r.captions, r.identity) for r in made.records
  ]


def digest(out):
  return hashlib.sha1((out / "filter.jsonl").read_bytes()).hexdigest()


def test_it_goes_on_where_it_was_killed(root, tmp_path, monkeypatch):
  straight = place.use(monkeypatch, place.Scorer())
  run.run(place.pedes(root), tmp_path / "straight")
  place.use(monkeypatch, place.Scorer(stop_at=9))
  with pytest.raises(KeyboardInterrupt):
    run.run(place.pedes(root), tmp_path / "killed")
  scores = tmp_path / "killed" / "scores"
  assert sorted(p.name for p in scores.glob("*")) == [
    "part-000000.jsonl",
    "scoring.json",
  ]
  # As a kill in the middle of writing leaves it.
  (scores / ".part-000001.jsonl.tmp").write_text('{"image": "cam/0')
  again = place.use(monkeypatch, place.Scorer())
  run.run(place.pedes(root), tmp_path / "killed")
  assert again.seen == straight.seen - 8  # the first part was there
  assert digest(tmp_path / "killed") == digest(tmp_path / "straight")
  assert not scores.exists()


def test_scores_of_something_else_are_not_taken_up(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer(stop_at=9))
  with pytest.raises(KeyboardInterrupt):
    run.run(place.pedes(root), tmp_path / "out")
  with pytest.raises(FilterError, match=r"pool\.seed: 0 -> 1"):
    run.run(place.pedes(root, pool__seed=1), tmp_path / "out")


def test_another_cut_encodes_nothing(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer())
  asked = {
    "k": place.pedes(root, "k=5"),
    "ratio": place.pedes(root, "keep_ratio=0.4", cut__min_pairs_per_id=1),
  }
  for name, each in asked.items():
    run.run(each, tmp_path / name)
  run.run(place.pedes(root), tmp_path / "again")
  monkeypatch.setattr(scorers, "build", lambda _: pytest.fail("a model was loaded"))
  for name, each in asked.items():
    header, lines = place.filtered(each, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / name)
  assert {line["image_id"] for line in lines if line["keep"]} == set(range(100, 110))
  assert header["k"] is None and header["cut"] == dict(by="keep_ratio", value=0.4)


def test_pictures_that_were_mended_are_scored_again(tmp_path, monkeypatch):
  place.write_pedes(tmp_path / "data", missing=(2, 3, 4, 5, 6, 7))
  place.use(monkeypatch, place.Scorer())
  asked, out = place.pedes(tmp_path / "data"), tmp_path / "out"
  with pytest.raises(BadData, match="6 of the 20 pictures") as error:
    run.run(asked, out)
  assert "6 missing files" in str(error.value)
  place.write_pedes(tmp_path / "whole")
  (tmp_path / "data" / "CUHK-PEDES").rename(tmp_path / "old")
  (tmp_path / "whole" / "CUHK-PEDES").rename(tmp_path / "data" / "CUHK-PEDES")
  header, _ = place.filtered(asked, out)
  assert header["unreadable"] == 0


def test_features_that_are_no_numbers_name_the_image(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer(broken=True))
  with pytest.raises(FilterError, match=r"image cam/000\.png hold NaN or infinity"):
    run.run(place.pedes(root), tmp_path / "out")


def test_a_k_beyond_the_pool_keeps_all_and_says_so(root, tmp_path, monkeypatch, capsys):
  place.use(monkeypatch, place.Scorer())
  header, _ = place.filtered(place.pedes(root, "k=31"), tmp_path / "out")
  assert header["kept"] == header["pairs"] - header["unreadable"]
  assert "WARNING: k=31 is larger than the pool of 30" in capsys.readouterr().out


def test_a_pool_smaller_than_asked_is_an_error(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer())
  fields = dict(pool__replace=False, pool__size=43)
  with pytest.raises(FilterError, match="has 42 captions, fewer than are to be drawn"):
    run.run(place.pedes(root, **fields), tmp_path / "out")
  fields.update(pool__size=21, pool__one_caption_per_image=True)
  with pytest.raises(FilterError, match="has 20 images with captions"):
    run.run(place.pedes(root, **fields), tmp_path / "out")


def test_the_folder_of_a_run_is_left_alone(root, tmp_path, monkeypatch):
  place.use(monkeypatch, place.Scorer())
  (tmp_path / "config.json").write_text('{"model": {}}')
  with pytest.raises(FilterError, match="holds a run"):
    run.run(place.pedes(root), tmp_path)


def test_a_filter_of_mals_keeps_its_layout(tmp_path, monkeypatch):
  data = tmp_path / "MALS"
  (data / "gene_attrs").mkdir(parents=True)
  entries = place.write_pedes(tmp_path / "other")
  (tmp_path / "other" / "CUHK-PEDES" / "imgs" / "cam").rename(data / "cam")
  parts = {"a": entries[:22:2], "b": entries[22::2]}
  for name, rows in parts.items():
    for row in rows:
      row["label"] = [0] * 27
    (data / "gene_attrs" / f"g_{name}.json").write_text(json.dumps(rows))
  place.use(monkeypatch, place.Scorer())
  c = place.shipped("mals,k=5,pool=mals")
  c.data.root, c.pool.size, c.scorer.place = str(tmp_path), 10, "x"
  c.pool.root = str(tmp_path)
  asked = place.settings.read(c.lock())
  assert asked.pool.source is None and asked.pool.exclude_self  # the same corpus
  _, lines = place.filtered(asked, tmp_path / "out")
  for line in lines:
    rows = json.loads((tmp_path / line["file"]).read_text())
    assert rows[line["index"]]["image"] == line["image"]
  images = dict(images=str(data))
  made = build.dataset("mals", tmp_path / "out" / "kept", "train", images)
  assert [r.image for r in made.records] == [r["image"] for r in lines if r["keep"]]
  assert len(made.records[0].truth["label"]) == 27
  assert 0 < len(made.records) < 20


def test_any_other_set_is_written_as_lines(tmp_path, monkeypatch):
  entries = place.write_pedes(tmp_path / "data")
  folder = tmp_path / "data" / "CUHK-PEDES" / "imgs"
  rows = [dict(r, identity=r.pop("image_id"), split="train") for r in entries]
  (folder / "captions.json").write_text(json.dumps(rows))
  place.use(monkeypatch, place.Scorer())
  c = place.shipped("folder,k=12")
  c.data.root, c.pool.size, c.scorer.place = str(folder), 30, "x"
  _, lines = place.filtered(place.settings.read(c.lock()), tmp_path / "out")
  options = dict(annotations=str(tmp_path / "out" / "kept" / "kept.jsonl"))
  made = build.dataset("lines", folder, "train", options)
  found = [(r.image, kept.caption_sha1(t)) for r in made.records for t in r.captions]
  assert found == [(r["image"], r["caption_sha1"]) for r in lines if r["keep"]]
  assert made.load_image(made.records[0], None).shape == (8, 4, 3)


# ---- the towers


@pytest.fixture(scope="module")
def pretrained():
  words = tokenizers.build("people")
  fields = dict(tiny.FIELDS, dtype="float32", text_length=40)
  found = Pretrained({}, fields, words)
  image = np.zeros((1, *tiny.SIZE, 3), np.uint8)
  drawn = weights.drawn(found.model, image, np.zeros((1, 40), np.int32), seed=0)
  found.params.update(drawn["params"])
  return found


def test_towers_are_those_of_load_on_any_number_of_devices(pretrained):
  rng = np.random.default_rng(0)
  pictures = [rng.integers(0, 256, (50, 20, 3), np.uint8) for _ in range(7)]
  texts = [f"a person in {w}" for w in place.WORDS] + ["long " * 45]
  found = []
  for count in (1, 8):
    scorer = towers.Towers(pretrained, 2, jax.devices()[:count])
    prepared = list(map(scorer.prepare, pictures))
    found.append((scorer.encode_images(prepared), scorer.encode_texts(texts)))
  for image, text in found:
    assert image.shape == (7, 1, 16) and text.shape == (7, 16)
    np.testing.assert_array_equal(image, found[0][0])
    np.testing.assert_array_equal(text, found[0][1])
  np.testing.assert_allclose(
    found[0][0][:, 0], pretrained.encode_images(pictures), atol=1e-6
  )
  with pytest.warns(UserWarning, match="texts are cut"):
    expected = pretrained.encode_texts(texts)
  np.testing.assert_allclose(found[0][1], expected, atol=1e-6)
  assert scorer.report(texts).startswith("1 of 7 captions exceed 40 tokens")
  rule.check(found[0][1], "row {}")


def test_no_image_is_deleted(root):
  assert len(list(pathlib.Path(root).rglob("*.png"))) == 19
