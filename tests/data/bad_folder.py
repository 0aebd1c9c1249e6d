"""A folder dataset with every kind of bad data at once, and the same one unharmed."""

import json
import os
import pathlib

import numpy as np
from PIL import Image

from tests.data import bombs
from tpr_jax.data import build

PEOPLE, EACH = 12, 4  # people, pictures of each
# Number of a picture -> kind of damage (data/damage.py).
HARM = {
  2: "missing",
  9: "damaged",  # cut off
  13: "damaged",  # no picture
  17: "unopened",  # a pipe
  22: "unopened",  # a folder
  25: "size",
  30: "bomb",
  **dict.fromkeys(range(36, 40), "missing"),  # all of one person
  41: "caption",  # empty
  43: "caption",  # one of two is no text
  46: "caption",  # none
}
LOST = tuple(n for n, kind in HARM.items() if kind != "caption")


def name(number):
  return f"images/{number:02}.png"


def texts(number):
  return [f"Person number {number // EACH}, seen {number}.", f"Again {number}, in red."]


def write(root, harm=True):
  """Writes the dataset below `root`; with `harm`, as HARM says."""
  root = pathlib.Path(root)
  (root / "images").mkdir(parents=True)
  entries = []
  for number in range(PEOPLE * EACH):
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (20 + number % 5, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / name(number))
    said, person = texts(number), number // EACH
    entry = dict(image=name(number), id=person, split="train", captions=said)
    entries.append(entry)
  if harm:
    _harm(root, entries)
  (root / "notes.json").write_text(json.dumps(entries), "utf-8")


def _harm(root, entries):
  for number, kind in HARM.items():
    if kind == "caption":
      continue
    (root / name(number)).unlink()
  whole = np.zeros((40, 20, 3), np.uint8)
  Image.fromarray(whole).save(root / name(9))
  (root / name(9)).write_bytes((root / name(9)).read_bytes()[:-30])
  (root / name(13)).write_text("<html>not found</html>")
  os.mkfifo(root / name(17))
  (root / name(22)).mkdir()
  Image.new("RGB", (1, 1)).save(root / name(25))
  (root / name(30)).write_bytes(bombs.files()["size.png"])
  entries[41]["captions"][0] = " \t"
  entries[43]["captions"][1] = 7
  entries[46]["captions"] = []


def load(root):
  return build.dataset("folder", root, "train")
