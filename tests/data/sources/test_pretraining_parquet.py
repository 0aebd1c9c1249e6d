"""WebPerson's parquet: pictures inside and beside, files that are not right."""

import concurrent.futures
import pickle

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.data import layouts
from tests.data import pretraining_sets as sets
from tpr_jax.data import build, check, images, pipeline, tfds_builders, tokenizer
from tpr_jax.data.record import DatasetError, ImageError, Record, SplitError
from tpr_jax.data.sources import tables, webperson

NAMES = [f"{part}/{i}.jpg" for part in "ba" for i in range(4)]  # not in order
BINARY = sets.PARQUET.set(0, pa.field("image", pa.binary()))


@pytest.fixture
def data(tmp_path):
  """The bytes of a picture for each of NAMES, all different."""
  sets.pictures(tmp_path / "drawn", NAMES)
  return [(tmp_path / "drawn" / name).read_bytes() for name in NAMES]


@pytest.fixture
def folder(tmp_path):
  return tmp_path / "WebPerson"


def write(folder, data, schema=sets.PARQUET, **options):
  """Two of the hub's files, three groups and one."""
  rows = sets.parquet_rows(NAMES, data)
  if data is not None and schema is BINARY:
    for row in rows:
      row["image"] = row["image"]["bytes"]
  for number, part in enumerate((rows[:5], rows[5:])):
    name = f"data/train-{number:05}-of-00002.parquet"
    sets.write_parquet(folder / name, part, schema, **options)


@pytest.mark.parametrize("schema", [sets.PARQUET, BINARY])
@pytest.mark.parametrize("options", [{}, {"write_statistics": False}])
def test_pictures_inside_of_parquet(schema, options, folder, data):
  write(folder, data, schema, **options)
  dataset = build.dataset("webperson", folder.parent, "train")
  assert [r.image for r in dataset.records] == NAMES  # the rows' order
  assert [r.identity for r in dataset.records] == list(range(8))
  assert dataset.records[1].captions == tuple(layouts.captions(1))
  assert isinstance(dataset.load_image, tables.ParquetImages)
  load_image = pickle.loads(pickle.dumps(dataset.load_image))
  for record in reversed(dataset.records):
    assert load_image.read_bytes(record) == data[NAMES.index(record.image)]
  assert load_image(dataset.records[3], (9, 9)).shape == (30, 14, 3)
  again = pickle.loads(pickle.dumps(load_image))  # one that holds open files
  assert again.read_bytes(dataset.records[7]) == data[7]
  assert build.all_splits("webperson", folder.parent) != []
  with pytest.raises(SplitError, match=r"all of .*WebPerson is train"):
    build.dataset("webperson", folder.parent, "test")


@pytest.mark.parametrize("options", [{}, {"write_statistics": False}])
def test_pictures_beside_parquet(options, folder):
  write(folder, None, **options)
  sets.pictures(folder / "images", NAMES)
  dataset = build.dataset("webperson", folder.parent, "train")
  kind = tables.ParquetImages if options else images.FileImages
  assert isinstance(dataset.load_image, kind)  # only statistics tell it before reading
  for record in dataset.records:
    want = (folder / "images" / record.image).read_bytes()
    assert dataset.load_image.read_bytes(record) == want
  (folder / "images" / NAMES[2]).unlink()
  with pytest.raises(images.MissingImage, match=r"b/2\.jpg: no such"):
    dataset.load_image(dataset.records[2])


@pytest.mark.parametrize("kind", [pa.null(), None])
def test_without_a_column_of_pictures_they_are_beside(kind, folder):
  schema = sets.PARQUET.remove(0)
  schema = schema if kind is None else schema.append(pa.field("image", kind))
  write(folder, None, schema)
  with pytest.raises(DatasetError, match=r"no folder .*images .option images=images"):
    webperson.load(folder.parent, "train")
  sets.pictures(folder / "images", NAMES)
  dataset = webperson.load(folder.parent, "train")
  assert isinstance(dataset.load_image, images.FileImages)
  assert dataset.load_image(dataset.records[0]).shape == (30, 14, 3)


def test_some_pictures_inside_and_some_beside(folder, data):
  rows = sets.parquet_rows(NAMES, [data[0], None, data[2], *[None] * 5])
  rows[3]["image"] = None
  sets.write_parquet(folder / "a.parquet", rows)
  sets.pictures(folder / "images", NAMES[1:2])
  dataset = webperson.load(folder.parent, "train")
  read = dataset.load_image.read_bytes
  assert [read(r) for r in dataset.records[:3:2]] == [data[0], data[2]]
  assert read(dataset.records[1]) == (folder / "images" / NAMES[1]).read_bytes()
  with pytest.raises(images.MissingImage, match=r"b/3\.jpg"):
    read(dataset.records[3])
  with pytest.raises(
    images.MissingImage, match=r"other\.jpg: not in the parquet files"
  ):
    read(Record("other.jpg", 0, (), "train"))


def test_only_columns_of_text_are_read_to_begin_with(folder, data, monkeypatch):
  write(folder, data)
  asked = []

  class File(parquet.ParquetFile):
    def iter_batches(self, **options):
      asked.append(options["columns"])
      return super().iter_batches(**options)

    def read_row_group(self, group, **options):
      asked.append((group, options["columns"]))
      return super().read_row_group(group, **options)

  monkeypatch.setattr(tables.parquet, "ParquetFile", File)
  monkeypatch.setattr(tables, "_ROWS", 2)  # batches that end inside of a file
  dataset = webperson.load(folder.parent, "train")
  assert asked == [["image_path", "caption1", "caption2"]] * 2
  assert [r.captions[0] for r in dataset.records] == [
    layouts.captions(i)[0] for i in range(8)
  ]
  asked.clear()
  for record in dataset.records:
    dataset.load_image.read_bytes(record)
  each = [(group, ["image.bytes"]) for group in (0, 1, 2, 0, 1)]
  assert asked == each  # in order, every group once
  for record in dataset.records:
    dataset.load_image.read_bytes(record)
  assert asked == each  # they are small enough to be kept, all of them


def test_few_row_groups_and_files_are_held(folder, data, monkeypatch):
  write(folder, data)
  monkeypatch.setattr(tables, "_HELD", 1)
  monkeypatch.setattr(tables, "_OPEN", 1)
  load = webperson.load(folder.parent, "train").load_image
  records = webperson.load(folder.parent, "train").records
  for at in (0, 7, 0, 3, 7, 2):
    assert load.read_bytes(records[at]) == data[at]
    assert len(load._held) == len(load._files) == 1


def test_threads_may_read_at_once(folder, data):
  write(folder, data)
  dataset = webperson.load(folder.parent, "train")
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(dataset.load_image.read_bytes, dataset.records * 20))
  assert found == data * 20


def test_a_row_group_of_gigabytes_is_refused(folder, data, monkeypatch):
  write(folder, data)
  monkeypatch.setattr(tables, "MAX_GROUP", 100)
  with pytest.raises(DatasetError, match=r"00000-of.*row group 0 are .*row_group_size"):
    webperson.load(folder.parent, "train")


def test_a_cut_off_file(folder, data):
  write(folder, data)
  path = folder / "data/train-00001-of-00002.parquet"
  whole = path.read_bytes()
  path.write_bytes(whole[:-200])
  message = rf"{path}: cannot be read as parquet: .*cut off.*{len(whole) - 200:,} bytes"
  with pytest.raises(DatasetError, match=message):
    webperson.load(folder.parent, "train")
  path.write_bytes(b"")
  with pytest.raises(DatasetError, match="cannot be read as parquet"):
    webperson.load(folder.parent, "train")
  path.write_bytes(
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
  )
  with pytest.raises(DatasetError, match=r"a pointer of Git LFS.*git lfs pull"):
    webperson.load(folder.parent, "train")


def test_damage_inside_of_a_file(folder, data):
  write(folder, data, compression="NONE")
  path = folder / "data/train-00000-of-00002.parquet"
  dataset = webperson.load(folder.parent, "train")
  whole = bytearray(path.read_bytes())
  at = whole.index(data[0][:40])
  whole[at - 40 : at + 40] = b"\0" * 80
  path.write_bytes(bytes(whole))
  with pytest.raises(ImageError):
    dataset.load_image(dataset.records[0])
  assert dataset.load_image.read_bytes(dataset.records[6]) == data[6]
  path.unlink()
  with pytest.raises(ImageError, match=r"b/1\.jpg: row group 0 of .* cannot be read"):
    pickle.loads(pickle.dumps(dataset.load_image)).read_bytes(dataset.records[1])
  whole[4:120] = b"\xff" * 116  # the first pages, of pictures; then those of texts
  footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
  whole[footer - 200 : footer] = b"\xff" * 200
  path.write_bytes(bytes(whole))
  with pytest.raises(DatasetError, match="cannot be read as parquet"):
    webperson.load(folder.parent, "train")


@pytest.mark.parametrize(
  "schema, message",
  [
    (sets.PARQUET.remove(1), "no column image_path; found the columns image, caption1"),
    (
      sets.PARQUET.remove(2).remove(2),
      "no column caption1, caption2; found the columns",
    ),
    (sets.PARQUET.set(3, pa.field("caption2", pa.binary())), "caption2 is binary, exp"),
    (
      sets.PARQUET.set(0, pa.field("image", pa.string())),
      "image is string, expected b",
    ),
    (
      sets.PARQUET.set(0, pa.field("image", pa.struct([("bytes", pa.string())]))),
      "image is struct<bytes: string>, expected binary",
    ),
  ],
)
def test_other_columns(schema, message, folder):
  path = sets.write_parquet(folder / "a.parquet", [], schema)
  with pytest.raises(DatasetError, match=message) as caught:
    webperson.load(folder.parent, "train")
  assert f"{path}: " in str(caught.value) and "expected " in str(caught.value)


def test_texts_of_other_types_of_text(folder):
  kinds = [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string()]
  fields = zip(sets.PARQUET.names[1:], kinds, strict=True)
  sets.write_parquet(folder / "a.parquet", sets.parquet_rows(NAMES), pa.schema(fields))
  sets.pictures(folder / "images", NAMES)
  records = webperson.load(folder.parent, "train").records
  assert records[7].image == NAMES[7] and records[7].captions[1].startswith(
    "The second"
  )


def test_rows_that_are_not_right(folder, data):
  rows = sets.parquet_rows(NAMES, data)
  rows[2]["caption2"] = None
  rows[4]["image_path"] = NAMES[1]
  rows[4]["caption1"] = rows[1]["caption1"]
  path = sets.write_parquet(folder / "a.parquet", rows)
  dataset = webperson.load(folder.parent, "train")
  assert dataset.records[2].unusable == (
    "key 'caption2': found NoneType null, expected a sentence",
  )
  assert len(dataset.records) == 7 and len(dataset.records[1].captions) == 3
  ((count, text),) = dataset.notes
  assert count == 1 and "1 captions more, 1 that were there" in text
  read = dataset.load_image.read_bytes
  assert [read(r) for r in dataset.records] == [*data[:4], *data[5:]]
  for value, found in ((None, "NoneType null"), ("/a.jpg", "'/a.jpg'")):
    rows[6]["image_path"] = value
    sets.write_parquet(path, rows)
    with pytest.raises(DatasetError, match=f"row 6: key 'image_path': found {found}"):
      webperson.load(folder.parent, "train")
  sets.write_parquet(path, [{"image_path": name} for name in NAMES])
  sets.pictures(folder / "images", [])
  with pytest.raises(DatasetError, match="row 0: key 'caption1': found NoneType null"):
    webperson.load(folder.parent, "train")
  sets.write_parquet(path, [])
  with pytest.raises(DatasetError, match="webperson: its files hold no records"):
    webperson.load(folder.parent, "train")


def test_which_files_are_read(folder, data):
  write(folder, data)
  sets.webperson(folder.parent)
  with pytest.raises(DatasetError, match="holds JSON and parquet files: choose with"):
    webperson.load(folder.parent, "train")

  def images_of(pattern):
    records = webperson.load(folder.parent, "train", annotations=pattern).records
    return [record.image for record in records]

  assert images_of("*.json") == images_of("any name.json") == sets.IMAGES["webperson"]
  assert images_of("data/*.parquet") == NAMES
  assert images_of("data/train-00001-of-00002.parquet") == NAMES[5:]
  sets.dump(folder / "b.json", [{"c.jpg": sets.pair(1)}])
  assert images_of("*.json") == [*sets.IMAGES["webperson"], "c.jpg"]
  for path in folder.glob("data/*"):
    path.unlink()
  with pytest.raises(
    DatasetError, match=r"2 annotation files: any name\.json, b\.json"
  ):
    webperson.load(folder.parent, "train")


def test_a_file_of_the_row_that_is_missing(folder, data):
  write(folder, data)
  (folder / "data/train-00000-of-00002.parquet").unlink()
  message = r"data lacks 1 of 2 parquet files: train-00000-of-00002\. To do without"
  with pytest.raises(DatasetError, match=message):
    webperson.load(folder.parent, "train")
  chosen = webperson.load(folder.parent, "train", annotations="data/*.parquet")
  assert [r.image for r in chosen.records] == NAMES[5:]
  assert chosen.load_image.read_bytes(chosen.records[0]) == data[5]


def test_training_and_check_and_archive_from_parquet(folder, data):
  write(folder, data)
  dataset = webperson.load(folder.parent, "train")
  people = tokenizer.build("people")
  options = dict(pipe="resize(32,16)", length=24, batch=4, seed=1, steps=4)
  found = []
  for threads in (0, 3):
    batches = pipeline.train_iterator(dataset, people, threads=threads, **options)
    assert batches.examples == 16
    found.append([batch["image"].tobytes() for batch in batches])
    assert len(batches.damage) == 0
    batches.close()
  assert found[0] == found[1]
  assert {f.kind for f in check.check([dataset]).findings} == {"counts"}
  tfds_builders.write_archive([dataset], folder.parent / "out", "webperson")
  archived = build.dataset("archive", folder.parent / "out", "train")
  assert archived.records == dataset.records
  read = archived.load_image.read_bytes
  assert [read(record) for record in archived.records] == data


def test_a_broken_picture_inside_is_one_bad_picture(folder, data):
  data[3] = data[3][:50]
  write(folder, data)
  dataset = webperson.load(folder.parent, "train")
  (finding,) = check.check([dataset]).of("unreadable-images")
  assert finding.count == 1 and finding.examples[0].startswith(f"{NAMES[3]}: ")
