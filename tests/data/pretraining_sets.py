"""Tiny copies of the sets to pre-train on, as they lie on disk, written for tests."""

import json

import pyarrow as pa
from pyarrow import parquet

from tests.data import layouts

PARQUET = pa.schema(
  [
    ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ("image_path", pa.string()),
    ("caption1", pa.string()),
    ("caption2", pa.string()),
  ]
)


def dump(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
  return path


def rewrite(path, change):
  """Applies `change` to what is at the top of a JSON file."""
  entries = json.loads(path.read_text("utf-8"))
  change(entries)
  return dump(path, entries)


def pictures(folder, names, first=0):
  """A picture under each name, unlike those of other numbers; the folder always."""
  folder.mkdir(parents=True, exist_ok=True)
  for seed, name in enumerate(names, start=first):
    layouts.picture(folder / name, seed)


def pair(number):
  first, second = layouts.captions(number)
  return {"caption1": first, "caption2": second}


def webperson(root):
  """Names out of order, two of them in one object."""
  entries = [
    {"b/2.jpg": pair(2), "a/9.jpg": pair(9)},
    {"b/1.jpg": pair(1)},
    {"a/0.jpg": pair(0)},
  ]
  pictures(root / "WebPerson/images", [name for entry in entries for name in entry])
  return dump(root / "WebPerson/any name.json", entries)


def parquet_rows(names, data=None):
  """Rows of the hub's form; data: the bytes of pictures, None: they are files."""
  return [
    {
      "image": None if data is None else {"bytes": data[i], "path": None},
      "image_path": name,
      **pair(i),
    }
    for i, name in enumerate(names)
  ]


def write_parquet(path, rows, schema=PARQUET, row_group_size=2, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  table = pa.Table.from_pylist(rows, schema)
  parquet.write_table(table, path, row_group_size=row_group_size, **options)
  return path


def luperson_mllm(root):
  """Two files of each kind; the paths before the names differ between files."""
  folder = root / "LUPerson-MLLM"
  for place, name in enumerate(("Td-qwen", "Td-shikra", "Ts-qwen", "Ts-shikra")):
    texts = {
      f"/disk{place}/part/{i}.jpg": f"Text {i} of {name}, a man in a red coat."
      for i in (2, 0, 1)
    }
    dump(folder / f"caption/{name}.json", texts)
  pictures(folder / "images", [f"{i}.jpg" for i in range(3)])
  return folder / "caption/Td-qwen.json"


def attributes(number):
  return [(number + i) % 3 - 1 for i in range(27)]


def mals(root):
  """Two files of two images."""
  folder = root / "MALS"
  for number, part in enumerate(("c_g_a_0", "i_g_a_1")):
    entries = [
      {
        "image": f"gene_crop/{part}/{i}.jpg",
        "caption": f"a woman of {part} in a coat of kind {i}",
        "image_id": f"{part}_{i}",
        "label": attributes(i),
      }
      for i in range(2)
    ]
    path = dump(folder / f"gene_attrs/g_{part}_attrs.json", entries)
    pictures(folder, [entry["image"] for entry in entries], 2 * number)
  return path


def synth_pedes(root, count=4):
  """Two pictures of each person."""
  entries = [
    {
      "id": 7 + i // 2,
      "file_path": f"Part1/{7 + i // 2}/{i}.jpg",
      "attributes": ["man,black hair,black shirt,pink shorts,black shoes,unknown"],
      "captions": layouts.captions(i, 2 + i % 2),
      "prompt_caption": [f"A man with {i} hats."],
    }
    for i in range(count)
  ]
  pictures(root / "SYNTH-PEDES", [entry["file_path"] for entry in entries])
  return dump(root / "SYNTH-PEDES/synthpedes_dataset.json", entries)


def luperson_t(root, count=5, form="file", values=None):
  """Rows with a column more than is read; two record batches."""
  folder = root / "LUPerson-T"
  pictures(folder / "images", [f"{i}.jpg" for i in range(count)])
  if values is None:
    values = [layouts.captions(i, 1 + i % 2) for i in range(count)]
  kind = pa.list_(pa.string())
  columns = {"image": [b"unread"] * len(values), "caption": pa.array(values, kind)}
  path = folder / "LUPerson_train.arrow"
  write_arrow(path, pa.table(columns), form)
  return path


def boxes(number):
  """One more for each image: (boxes, logits, phrases), lists of one length."""
  found = [
    ([0.5, 0.5, 0.4, 0.6], 0.75, "a man"),
    ([0.5, 0.3, 0.25, 0.2], 0.5, "a shirt"),
  ]
  return [list(column) for column in zip(*found[: 1 + number % 2], strict=True)]


def sda(root):
  """Two files of two images."""
  folder = root / "SDA"
  for number, part in enumerate(("0_5000", "5000_10000")):
    entries = []
    for i in range(2):
      found, logits, phrases = boxes(i)
      entries.append(
        {
          "image": f"c_{part}/{i}_0.jpg",
          "boxes": found,
          "logits": logits,
          "phrases": phrases,
          "caption": f"a man of part {part} wearing shirt {i}",
          "image_id": 2 * number + i,
        }
      )
    path = dump(folder / f"sda_{part}.json", entries)
    pictures(folder, [entry["image"] for entry in entries], 2 * number)
  return path


def write_arrow(path, table, form, rows=3):
  writer = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[form]
  with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
    out.write_table(table, max_chunksize=rows)


WRITERS = {
  "webperson": webperson,
  "luperson_mllm": luperson_mllm,
  "mals": mals,
  "synth_pedes": synth_pedes,
  "luperson_t": luperson_t,
  "sda": sda,
}
IMAGES = {
  "webperson": ["a/0.jpg", "a/9.jpg", "b/1.jpg", "b/2.jpg"],
  "luperson_mllm": ["0.jpg", "1.jpg", "2.jpg"],
  "mals": [
    f"gene_crop/{part}/{i}.jpg" for part in ("c_g_a_0", "i_g_a_1") for i in range(2)
  ],
  "synth_pedes": [f"Part1/{7 + i // 2}/{i}.jpg" for i in range(4)],
  "luperson_t": [f"{i}.jpg" for i in range(5)],
  "sda": [f"c_{part}/{i}_0.jpg" for part in ("0_5000", "5000_10000") for i in range(2)],
}
OPTIONS = {"luperson_t": {"drop_last": 0}}  # or nothing would be left
