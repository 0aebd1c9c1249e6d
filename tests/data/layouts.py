"""Tiny copies of the real on-disk layouts, written for tests."""

import json
import pathlib

import numpy as np
from PIL import Image


def picture(path, seed, size=(30, 14), kind=None):
  """A small picture of noise, another one for each seed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng([seed, 1])
  pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(path, kind)


def write(folder, name, entries, images="", key="file_path", pictures=True):
  """JSON `name` under `folder` and a picture for each entry; returns its path."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / name
  path.write_text(json.dumps(entries, ensure_ascii=False), "utf-8")
  for seed, entry in enumerate(entries if pictures else ()):
    picture(folder / images / entry[key].replace("\\", "/"), seed)
  return path


def captions(number, count=2):
  """Sentences that differ between images and between captions of one image."""
  ages = ("first", "second", "third", "fourth", "fifth")
  return [f"The {age} text of person number {number}." for age in ages[:count]]


def cuhk_pedes(root, **options):
  """Two training people, one each in val and test; PNG and JPEG side by side."""
  rows = [
    ("train", 1, "CUHK01/0001001.png", 2),
    ("train", 1, "CUHK01/0001002.png", 2),
    ("train", 11003, "Market/0002_c1.jpg", 3),
    ("val", 11004, "CUHK03/5_1.png", 2),
    ("test", 12004, "train_query/p1_s1.jpg", 2),
  ]
  entries = [
    {
      "split": split,
      "captions": captions(i, count),
      "file_path": name,
      "processed_tokens": [c.lower().split() for c in captions(i, count)],
      "id": person,
    }
    for i, (split, person, name, count) in enumerate(rows)
  ]
  return write(root / "CUHK-PEDES", "reid_raw.json", entries, "imgs", **options)


def icfg_pedes(root, name="ICFG-PEDES.json", **options):
  """One caption an image, identities from 0, no val."""
  rows = [
    ("train", 0, "train/0000/0000_000_01_0303morning_0008_0.jpg"),
    ("train", 1, "train/0001/0001_000_01_0303morning_0009_0.jpg"),
    ("test", 0, "test/0627/0627_010_05_0303afternoon_1591_0.jpg"),
  ]
  entries = [
    {
      "split": split,
      "captions": captions(i, 1),
      "file_path": path,
      "processed_tokens": [[]],
      "id": person + (3102 if split == "test" else 0),
    }
    for i, (split, person, path) in enumerate(rows)
  ]
  return write(root / "ICFG-PEDES", name, entries, "imgs", **options)


def rstpreid(root, **options):
  """`img_path`, not `file_path`."""
  entries = [
    {"id": i, "img_path": f"{i:04d}_c5_0022.jpg", "captions": captions(i), "split": s}
    for i, s in enumerate(("train", "train", "val", "test"))
  ]
  return write(
    root / "RSTPReid", "data_captions.json", entries, "imgs", "img_path", **options
  )


def ufine6926(root, name="annotations.json", **options):
  """Paths from the dataset's own folder; backslashes and other alphabets happen."""
  paths = ("images/1.jpg", "images\\2.jpg", "images/страница 3.jpg", "./images/é.jpg")
  entries = [
    {
      "split": "train" if i < 2 else "test",
      "id": 10 * i,
      "file_path": path,
      "captions": captions(i),
      "coarse": f"Person {i}, briefly.",
      "source": {"video": i},
    }
    for i, path in enumerate(paths)
  ]
  return write(root / "UFine6926", name, entries, **options)


def ufine3c(root, **options):
  """Test only, `source` tells the set, captions in any number."""
  entries = [
    {
      "split": "test",
      "id": i,
      "file_path": f"images/{i}.jpg",
      "captions": captions(i, 3 + i),
      "source": source,
    }
    for i, source in enumerate(("CUHK-PEDES", "ICFG-PEDES", "UFine6926"))
  ]
  return write(root / "UFine3C", "test.json", entries, **options)


WRITERS = {
  "cuhk_pedes": cuhk_pedes,
  "icfg_pedes": icfg_pedes,
  "rstpreid": rstpreid,
  "ufine6926": ufine6926,
  "ufine3c": ufine3c,
}
SPLITS = {
  "cuhk_pedes": ("train", "val", "test"),
  "icfg_pedes": ("train", "test"),
  "rstpreid": ("train", "val", "test"),
  "ufine6926": ("train", "test"),
  "ufine3c": ("test",),
}
