"""The whole way: sources, endpoint, review, and the set that our loaders read."""

import numpy as np
import pytest

from tests.curate import fake
from tests.curate.place import files, load
from tests.test_main import run
from tpr_jax.curate import build, settings
from tpr_jax.curate.problems import CurateError
from tpr_jax.data import build as data
from tpr_jax.data import check

FEW = (
  "identities=2",
  "options.identities=6",
  "options.views=1",
  "options.granularity=('fine','coarse')",
)
MODE = "--mode=build_cross"


def rendered(*more):
  """Three rendered settings, two people of each."""
  names = ("rendered", "rendered_synthetic", "rendered_target")
  few = [f"sources.{name}.{word}" for name in names for word in FEW]
  return fake.config(*few, "size=(32,16)", *more)


# ---- people and pictures, without a model


def test_rendered_people_need_nothing_else(tmp_path):
  assert build.build_cross(rendered(), tmp_path / "out") == 0
  made = load(tmp_path / "out")
  assert made.identities == (0, 1, 2, 3, 4, 5)
  assert [r.truth["source"] for r in made.records] == (
    ["rendered"] * 2 + ["rendered_synthetic"] * 2 + ["rendered_target"] * 2
  )
  for record in made.records:
    assert made.load_image(record, None).shape == (32, 16, 3)
    asked = [truth["granularity"] for truth in record.truth["caption_truth"]]
    assert asked == ["fine", "coarse"]
    assert {t["written_by"] for t in record.truth["caption_truth"]} == {"original"}
  original = data.dataset("rendered", None, "test", dict(seed=2, identities=6, views=1))
  known = {record.image: record for record in original.records}
  for record in made.records[:2]:
    told = record.truth["original"]
    assert known[told["image"]].identity == told["identity"]
    assert known[told["image"]].captions == record.captions
  assert check.check([made]).worst != "error"


def test_the_same_people_whatever_the_other_sources_are(tmp_path):
  build.build_cross(rendered(), tmp_path / "a")
  build.build_cross(rendered("seed=1"), tmp_path / "b")
  alone = fake.config(
    *(f"sources.rendered.{word}" for word in FEW),
    "size=(32,16)",
    "text.tokenizer=people",
    value="configs/cross.py:sources=rendered",
  )
  build.build_cross(alone, tmp_path / "c")
  a, b, c = ([r.captions for r in load(tmp_path / name).records] for name in "abc")
  assert a[:2] == c and a != b


def test_identities_never_collide_and_pictures_are_the_originals(tmp_path):
  build.build_cross(files(tmp_path, None, rewrites=0), tmp_path / "out")
  made = load(tmp_path / "out")
  assert len(made.records) == 14 and made.identities == tuple(range(7))
  by_person = {}
  for record in made.records:
    told = record.truth["original"]
    by_person.setdefault((record.truth["source"], told["identity"]), set()).add(
      record.identity
    )
    root = tmp_path / ("one" if record.truth["source"] == "icfg_pedes" else "two")
    pixels = data.dataset("icfg_pedes", root, "test").load_image
    bytes_of = made.load_image.read_bytes(record)
    assert bytes_of == (root / "ICFG-PEDES" / told["image"]).read_bytes()
    assert callable(pixels)
  assert len(by_person) == 7 and all(len(new) == 1 for new in by_person.values())


def test_it_is_in_the_layout_of_ufine3c(tmp_path):
  out = tmp_path / "out"
  build.build_cross(files(tmp_path, None, rewrites=0), out)
  (out / "dataset").rename(out / "UFine3C")
  found = data.dataset("ufine3c", out, "test")
  assert [r.truth["source"] for r in found.records] == ["icfg_pedes"] * 8 + [
    "other"
  ] * 6
  assert found.load_image(found.records[0], None).dtype == np.uint8


def test_notes_for_the_card_may_change(tmp_path):
  out = tmp_path / "out"
  build.build_cross(files(tmp_path, None, rewrites=0), out)
  word = "sources.icfg_pedes.licence=not to be passed on"
  build.build_cross(files(tmp_path, None, word, rewrites=0), out)
  card = (out / "dataset" / "README.md").read_text()
  assert "- icfg_pedes (icfg_pedes): not to be passed on" in card
  assert "- other (icfg_pedes): " in card


@pytest.mark.parametrize("how", ["copy", "link", "reference"])
def test_three_ways_to_hold_a_picture(tmp_path, how):
  out = tmp_path / "out"
  config = files(tmp_path, None, f"images={how}", rewrites=0)
  for _ in range(2):  # again: everything is there
    build.build_cross(config, out)
  original = tmp_path / "one" / "ICFG-PEDES" / "imgs" / "test" / "0000_0.jpg"
  path = out / "dataset" / "images" / "icfg_pedes" / "imgs" / "test" / "0000_0.jpg"
  assert path.read_bytes() == original.read_bytes()
  assert path.is_symlink() == (how == "reference")
  assert path.samefile(original) == (how != "copy")
  made = load(out)
  assert isinstance(made.load_image(made.records[0], None), np.ndarray)
  assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


def test_near_twins_stay_twins_only_together(tmp_path):
  names = ("rendered_synthetic", "rendered_target", "rendered")
  words = [
    f"sources.{n}.options.{w}" for n in names for w in ("identities=10", "views=1")
  ]
  words += [f"sources.{n}.identities=0" for n in names]
  made = fake.config(*words, "size=(32,16)")
  build.build_cross(made, tmp_path / "out")
  groups = {}
  for record in load(tmp_path / "out").records:
    group = record.truth["twin_group"]
    if group is not None:
      groups.setdefault(group, []).append((record.truth["source"], record.identity))
  assert len(groups) == 3  # three in ten, of each source
  for group, members in groups.items():
    assert len({source for source, _ in members}) == 1 and len(members) == 3
    assert group == min(identity for _, identity in members)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["sources.icfg_pedes.identities=9"], "identities=9: the split test of icfg_pedes"
     " has 4 people"),
    (["images=move"], "--config.images: found 'move', expected one of copy"),
    (["styles=('brief',)"], "--config.styles"),
    (["rewrites=-1"], "--config.rewrites: found -1"),
    (["rewrites=1", "rewriters.first.model="], "rewriters.first.model"),
    (["rewrites=1", "rewriters.first.kind=cloud"], "rewriters.first.kind"),
    (["rewrites=1", "rewriters.first.extra={a"], "extra is not JSON"),
    (["rewrites=1", "rewriters.first.timeout=0.0"], "first.timeout: found 0.0"),
    (["rewrites=4", "rewriters.first.temperature=0.0"], "temperature is 0"),
  ],
)  # fmt: skip
def test_values_that_cannot_be_used(tmp_path, words, message):
  with pytest.raises(CurateError) as caught:
    build.build_cross(files(tmp_path, None, *words, rewrites=0), tmp_path / "out")
  assert message in str(caught.value)


def test_a_person_is_not_taken_twice(tmp_path):
  config = files(tmp_path, None, rewrites=0).unlock()
  config.sources.other.root = config.sources.icfg_pedes.root
  with pytest.raises(CurateError, match="two identities"):
    build.build_cross(config.lock(), tmp_path / "out")


def test_missing_pictures_are_found_before_anything_is_asked(tmp_path):
  with fake.Server() as server:
    config = files(tmp_path, server)
    (tmp_path / "one" / "ICFG-PEDES" / "imgs" / "test" / "0002_1.jpg").unlink()
    with pytest.raises(CurateError, match=r"1 pictures .* missing:\n .*0002_1\.jpg"):
      build.build_cross(config, tmp_path / "out")
  assert server.payloads == []


def test_a_folder_of_another_set_is_left_alone(tmp_path):
  out = tmp_path / "out"
  build.build_cross(rendered(), out)
  before = (out / "dataset" / "annotations.json").read_bytes()
  with pytest.raises(CurateError, match="seed: 0 -> 5"):
    build.build_cross(rendered("seed=5"), out)
  assert (out / "dataset" / "annotations.json").read_bytes() == before
  strange = tmp_path / "mine"
  strange.mkdir()
  (strange / "thesis.txt").write_text("")
  with pytest.raises(CurateError, match=r"thesis\.txt"):
    build.build_cross(rendered(), strange)


# ---- the command line


def test_the_mode_and_its_config_belong_together(tmp_path):
  cases = [
    ([MODE, "--config=configs/cfam.py", "--out=x"], "takes a test set to build"),
    (["--config=configs/cross.py"], "--mode=build_cross takes it"),
    ([MODE, "--config=configs/cross.py"], "needs --out=DIR"),
    ([MODE, "--out=x"], "--config=configs/cross.py"),
    ([MODE, "--config=configs/cross.py", "--out=x", "--run=y"], "takes no --run"),
  ]
  for words, message in cases:
    done = run(tmp_path, *words)
    assert done.returncode == 1 and message in done.stderr, done.stderr
  assert list(tmp_path.iterdir()) == []


def test_configs_of_any_sources():
  read = lambda value: settings.read(fake.config("root=/data", value=value))
  paper = read("configs/cross.py:ufine3c,rewriters=2")
  assert [(s.name, s.identities, s.root) for s in paper.sources] == [
    ("cuhk_pedes", 750, "/data"),
    ("icfg_pedes", 750, "/data"),
    ("ufine6926", 750, "/data"),
  ]
  assert [r.key for r in paper.rewriters] == ["first", "second"]
  mine = read("configs/cross.py:sources=rstpreid+folder")  # in alphabetical order
  assert [(s.key, s.identities) for s in mine.sources] == [
    ("folder", 0),
    ("rstpreid", 0),
  ]
  configs = ["sources=folder+folder", "rewriters=5", "ufine3x"]
  for argument in configs:
    with pytest.raises(Exception, match="config: "):
      fake.config(value=f"configs/cross.py:{argument}")
