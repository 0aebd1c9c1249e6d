"""Each defect is put into a healthy dataset, and must be found, and nothing else."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.data import layouts
from tpr_jax.data import build, check, check_text, published
from tpr_jax.data.findings import Finding, Findings
from tpr_jax.data.record import Dataset, Record

REAL = pathlib.Path(__file__).parents[3] / "shared/real"


def people(root, count=6, **changes):
  """A folder dataset of our own (no published counts): train and test halves.

  `changes` maps "index" to the keys to overwrite in that entry.
  """
  entries = [
    {
      "image": f"images/{i}.png",
      "captions": layouts.captions(i),
      "id": i,
      "split": "train" if i < count // 2 else "test",
    }
    for i in range(count)
  ]
  for index, change in changes.items():
    entries[int(index.lstrip("_"))].update(change)
  layouts.write(root, "notes.json", entries, key="image")
  return lambda **options: check.check(build.all_splits("folder", root), **options)


def kinds(findings):
  return {(f.severity, f.kind, f.split, f.count) for f in findings.findings}


def test_a_healthy_dataset_has_no_findings(tmp_path):
  found = people(tmp_path)()
  assert found.findings == () and found.worst is None
  assert "Nothing found." in found.render()


def test_missing_images(tmp_path):
  look = people(tmp_path)
  (tmp_path / "images/4.png").unlink()
  (tmp_path / "images/1.png").unlink()
  found = look()
  assert kinds(found) == {
    ("error", "missing-images", "train", 1),
    ("error", "missing-images", "test", 1),
  }
  assert found.findings[0].examples == ("images/1.png",)
  assert found.worst == "error"
  assert look(decode=False).findings == ()


def test_truncated_and_other_unreadable_files(tmp_path):
  look = people(tmp_path)
  path = tmp_path / "images/0.png"
  path.write_bytes(path.read_bytes()[:-60])
  (tmp_path / "images/2.png").write_text("<html>")
  (finding,) = look().findings
  assert kinds(look()) == {("error", "unreadable-images", "train", 2)}
  assert "images/0.png: damaged or truncated" in finding.examples[0]
  assert "images/2.png: not a picture" in finding.examples[1]


def test_identities_shared_between_splits(tmp_path):
  found = people(tmp_path, _5={"id": 2}, _4={"id": 0})()
  assert kinds(found) == {("error", "shared-identities", "train+test", 2)}
  assert found.findings[0].examples == ("0", "2")


def test_identity_names_are_compared_as_names(tmp_path):
  """Two files number their own people; equal numbers are not equal people."""
  for split, name in (("train", "amy"), ("test", "zoe")):
    rows = [{"image": f"{name}.png", "captions": [f"{name}."], "id": name}]
    layouts.write(tmp_path, f"{split}.json", rows, key="image", pictures=False)
    seed = {"train": 1, "test": 2}[split]
    layouts.picture(tmp_path / f"{name}.png", seed)
  files = {"annotations": {"train": "train.json", "test": "test.json"}}
  datasets = build.all_splits("folder", tmp_path, files)
  assert [d.identities for d in datasets] == [(0,), (0,)]
  assert check.check(datasets).findings == ()
  rows[0]["id"] = "amy"
  layouts.write(tmp_path, "test.json", rows, key="image", pictures=False)
  found = check.check(build.all_splits("folder", tmp_path, files))
  assert kinds(found) == {("error", "shared-identities", "train+test", 1)}


def test_one_caption_over_several_identities(tmp_path):
  same = ["A Man in black.", "Text of 0."]
  look = people(
    tmp_path, _0={"captions": same}, _1={"captions": ["a man  in BLACK", "Text of 1."]}
  )
  found = look()
  assert kinds(found) == {("warning", "shared-captions", "train", 1)}
  assert found.findings[0].examples == ("2 identities: a man in black",)
  assert "(2 captions)" in found.findings[0].message
  found = people(tmp_path / "b", _0={"captions": same}, _4={"captions": same})()
  assert found.findings == ()  # in different splits nothing is confused


def test_empty_captions(tmp_path):
  found = people(tmp_path, _3={"captions": ["", "Fine."]}, _4={"captions": [" .\n"]})()
  assert kinds(found) == {("error", "empty-captions", "test", 2)}
  assert found.findings[0].examples == ("images/3.png: ''", "images/4.png: ' .\\n'")


def test_captions_repeated_within_an_image(tmp_path):
  found = people(tmp_path, _3={"captions": ["Twice.", "twice"]})()
  assert kinds(found) == {("info", "repeated-captions", "test", 1)}


@pytest.mark.parametrize(
  "caption, kind",
  [
    ("A woman\u2019s cafÃ© bag.", "mojibake"),
    ("She donâ€™t wear a hat.", "mojibake"),
    ("A hat\ufffd of wool.", "mojibake"),
    ("A red\x07 bag.", "control"),
    ("A red\u200b bag.", "control"),
    ("A red 背包 bag.", "cjk"),
    ("A red，bag.", "cjk"),
    ("A rеd bag.", "other-alphabet"),  # the e is Cyrillic
    ("A bag &amp; a hat.", "markup"),
    ("A bag <br> a hat.", "markup"),
    ("A bag \\u00a0 a hat.", "markup"),
  ],
)
def test_odd_characters(caption, kind, tmp_path):
  assert set(check_text.oddities(caption)) == {kind}
  found = people(tmp_path, _1={"captions": [caption]})()
  assert kinds(found) == {("warning", f"characters-{kind}", "train", 1)}
  assert found.findings[0].examples[0].isascii()


@pytest.mark.parametrize(
  "caption",
  [
    "A café-goer’s naïve “look” — 5′10″, é, ß, ½, €20.",
    "Tabs\tand\nlines are white space; AT&T; 3 < 4 > 2 \\ a/b.",
  ],
)
def test_ordinary_typography_is_not_odd(caption):
  assert check_text.oddities(caption) == {}


def test_images_listed_twice(tmp_path):
  found = people(tmp_path, _1={"image": "images/0.png"})()
  assert ("warning", "images-listed-twice", "train", 1) in kinds(found)
  assert found.worst == "warning"
  found = people(tmp_path / "b", _5={"image": "images/0.png"})()
  assert kinds(found) == {("error", "images-in-two-splits", "train+test", 1)}


@pytest.mark.parametrize(
  "one, other, identity, severity, kind",
  [
    (0, 5, 5, "error", "copied-images-between"),
    (0, 1, 1, "warning", "copied-images-people"),
    (0, 1, 0, "info", "copied-images-same"),
  ],
)
def test_copies_under_another_name(one, other, identity, severity, kind, tmp_path):
  look = people(tmp_path, **{f"_{other}": {"id": identity}})
  source = tmp_path / f"images/{one}.png"
  (tmp_path / f"images/{other}.png").write_bytes(source.read_bytes())
  found = look()
  assert kinds(found) == {(severity, kind, "train+test", 1)}
  assert found.findings[0].examples == (f"images/{one}.png = images/{other}.png",)


def test_odd_kinds_of_files_are_counted(tmp_path):
  look = people(tmp_path)
  gray = Image.fromarray(np.arange(200, dtype=np.uint8).reshape(20, 10))
  gray.save(tmp_path / "images/0.png")
  gray.convert("CMYK").save(tmp_path / "images/1.png", "JPEG")
  exif = Image.Exif()
  exif[0x0112] = 6
  gray.convert("RGB").save(tmp_path / "images/4.png", "JPEG", exif=exif)
  found = look()
  assert kinds(found) == {
    ("info", "images-grayscale", "train", 1),
    ("info", "images-cmyk", "train", 1),
    ("info", "images-exif-rotated", "test", 1),
  }
  sizes = [row.get("sizes") for row in found.statistics]
  assert sizes[0] == {"height": [20, 20, 30], "width": [10, 10, 14]}
  assert sizes[1]["height"] == [10, 30, 30]  # the rotated one lies down


def test_words_of_table_1():
  captions = ["A knee-length coat.", "the man's COAT, a coat", "Red."]
  assert check_text.statistics(captions) == {
    "longest": 5,
    "shortest": 1,
    "mean": 9 / 3,
    "unique": len({"a", "knee-length", "coat", "the", "man's", "red"}),
  }
  assert check_text.statistics([]) is None


def whole(name):
  """A dataset with exactly the published counts (records only)."""
  datasets, start = [], 0
  for split, counts in published.COUNTS[name].items():
    if split == "all":
      continue
    images, captions, identities = (accepted[0] for accepted in counts)
    extra = captions - images  # one each, the rest on the first images
    per = [1 + extra // images + (i < extra % images) for i in range(images)]
    records = tuple(
      Record(f"{split}/{i}", start + i % identities, ("Some text.",) * n, split, name)
      for i, n in enumerate(per)
    )
    start += identities
    datasets.append(Dataset(name, split, records, None))
  return datasets


SMALL = [  # of the others, the records alone take gigabytes
  name for name, counts in published.COUNTS.items() if list(counts) != ["train"]
]


@pytest.mark.parametrize("name", SMALL)
def test_published_counts_are_recognised(name):
  datasets = whole(name)
  counts = check.check(datasets, decode=False).of("counts")
  totals = set(published.COUNTS[name]) | {d.split for d in datasets}
  assert {f.split for f in counts} == totals
  assert {f.severity for f in counts} == {"info"}


@pytest.mark.parametrize("at", [0, 1])
def test_each_of_several_published_figures_is_accepted(at, monkeypatch):
  figures = published.Counts((8, 5), (16, 10), (8, 5))
  monkeypatch.setitem(published.COUNTS, "webperson", {"train": figures})
  one = published.Counts(*((values[at],) for values in figures))
  with monkeypatch.context() as patched:
    patched.setitem(published.COUNTS, "webperson", {"train": one})
    (dataset,) = whole("webperson")
  found = check.check([dataset], decode=False)
  assert [f.severity for f in found.of("counts")] == ["info"]
  assert [row["images"] for row in found.statistics] == [one.images[0], 8]


def test_counts_that_differ_are_told_with_both_numbers():
  test = whole("rstpreid")[-1]
  short = Dataset("rstpreid", "test", test.records[:-3], None)
  (finding,) = check.check([short], decode=False).of("counts")
  assert finding.severity == "warning"
  assert "997 images (published: 1,000)" in finding.message
  assert "1,994 captions (published: 2,000)" in finding.message
  assert "identities (published" not in finding.message  # those agree
  assert "3,901/100/100" in finding.message


def test_both_published_caption_counts_of_cuhk_pedes_are_accepted():
  splits = published.COUNTS["cuhk_pedes"]
  assert splits["all"].captions == (80_440, 80_412)
  parts = [splits[s].captions[0] for s in ("train", "val", "test")]
  assert sum(parts) in splits["all"].captions


def test_progress_reaches_the_total(tmp_path):
  steps = []
  people(tmp_path)(progress=lambda done, total: steps.append((done, total)))
  assert steps == [(i, 6) for i in range(1, 7)]


def test_findings_are_data_and_a_table(tmp_path):
  look = people(tmp_path, _3={"captions": [""]}, _1={"captions": ["A 背 bag."]})
  found = look(examples=1)
  data = json.loads(json.dumps(found.to_json()))
  assert data["worst"] == "error"
  assert data["counts"] == {"error": 1, "warning": 1, "info": 0}
  worst_first = [f["severity"] for f in data["findings"]]
  assert worst_first == ["error", "warning"]
  assert data["statistics"][0]["identities"] == 3
  text = found.render()
  assert text.endswith("\n1 error, 1 warning, 0 info")
  assert text.index("ERROR") < text.index("WARNING")
  assert all(len(line) <= 100 for line in text.splitlines())


def test_examples_are_cut_to_the_number_asked_for(tmp_path):
  look = people(tmp_path, **{f"_{i}": {"captions": [""]} for i in range(3)})
  found = look(examples=2)
  assert len(found.findings[0].examples) == 2 and found.findings[0].count == 3
  assert "... of 3" in found.render()


def test_a_severity_that_does_not_exist_is_refused():
  with pytest.raises(ValueError, match="severity 'fatal'"):
    Finding("fatal", "kind", "a", "b", 1, "text")
  assert Findings((), ()).worst is None


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/real is not here")
def test_the_real_photographs_are_sound():
  found = check.check(build.all_splits("ufine6926", REAL))
  assert {f.kind for f in found.findings} == {"counts"}  # a few hundred, not 26,206
  train, test = found.statistics[:2]
  assert (train["images"], test["images"]) == (263, 126)
