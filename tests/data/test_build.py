import subprocess
import sys

import pytest

from tests.data import layouts
from tpr_jax.data import build
from tpr_jax.data.record import Dataset, DatasetError, Record


def people(identities, split="train"):
  records = tuple(
    Record(f"{i}.jpg", identity, (f"Text {i}.",), split, "made")
    for i, identity in enumerate(identities)
  )
  return Dataset("made", split, records, load_image=None)


def test_every_name_of_the_table_leads_to_a_module_with_load():
  for name in build.SOURCES:
    assert build.options_of(name), name


def test_unknown_names_options_and_splits_name_the_nearest(tmp_path):
  with pytest.raises(DatasetError, match=r"'cuhk_pedse'; did you mean 'cuhk_pedes'\?"):
    build.dataset("cuhk_pedse", tmp_path, "train", {})
  with pytest.raises(
    DatasetError, match=r"option of ufine6926 'caption'; .*'captions'"
  ):
    build.dataset("ufine6926", tmp_path, "train", {"caption": "coarse"})
  with pytest.raises(DatasetError, match=r"split 'tests'; did you mean 'test'\?"):
    build.dataset("ufine6926", tmp_path, "tests", {})


def test_options_of_a_layout_are_the_users_only():
  assert build.options_of("ufine6926") == ("annotations", "captions", "rule")
  assert "name" not in build.options_of("rendered")  # the table's entry fixes it


def test_options_reach_the_source(tmp_path):
  layouts.ufine6926(tmp_path)
  dataset = build.dataset("ufine6926", tmp_path, "train", {"captions": "coarse"})
  assert dataset.records[0].captions == ("Person 0, briefly.",)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  layouts.ufine6926(tmp_path / "data")
  assert len(build.dataset("ufine6926", "~/data", "train", {}).records) == 2
  assert len(build.all_splits("ufine6926", "~/data")) == 2


def test_hold_out_divides_identities():
  dataset = people([5, 5, 9, 2, 9, 40, 41, 42, 43, 44, 45, 46])
  train, val = build.hold_out(dataset, 0.3, seed=3)
  assert (train.split, val.split) == ("train", "val")
  assert len(val.identities) == 3 and len(train.identities) == 7
  assert not set(train.identities) & set(val.identities)
  assert sorted(train.records + val.records, key=lambda r: int(r.image[:-4])) == list(
    dataset.records
  )
  positions = [dataset.records.index(r) for r in train.records]
  assert positions == sorted(positions)


def test_hold_out_depends_on_seed_and_identities_only():
  one = people(range(100))
  again = people([*reversed(range(100)), 3, 3, 3])
  chosen = build.hold_out(one, 0.1, seed=0)[1].identities
  assert build.hold_out(again, 0.1, seed=0)[1].identities == chosen
  assert build.hold_out(one, 0.1, seed=1)[1].identities != chosen


@pytest.mark.parametrize(
  "count, share",
  [(100, 0.0), (100, 1.0), (100, -0.1), (100, 0.001), (1, 0.5), (0, 0.5)],
)
def test_hold_out_never_empties_a_side(count, share):
  with pytest.raises(DatasetError, match=f"share of {share} of the {count} identities"):
    build.hold_out(people(range(count)), share, seed=0)


def test_reading_files_loads_neither_tfds_nor_tensorflow_nor_jax(tmp_path):
  layouts.ufine6926(tmp_path)
  code = (
    "import sys; from tpr_jax.data import build, check;"
    f"check.check(build.all_splits('ufine6926', {str(tmp_path)!r}));"
    "heavy = {'tensorflow', 'tensorflow_datasets', 'jax'};"
    "print(sorted(heavy & set(sys.modules)))"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == "[]"
