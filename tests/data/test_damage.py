"""Damage: the same in whatever order and place it is found; bounded; explained."""

import itertools
import json
import pickle
import random
import time

import pytest

from tpr_jax.data import damage as damages
from tpr_jax.data.damage import BadData, Damage
from tpr_jax.data.record import DatasetError

FINDS = [
  ("b.jpg", "missing", "b.jpg: no such file"),
  ("a.jpg", "damaged", "a.jpg: cut short"),
  ("a.jpg", "damaged", "a.jpg: another reason"),
  ("c.jpg", "size", "c.jpg: 1 x 1 pixels"),
  ("a.jpg", "caption", "a.jpg: caption 0 is empty"),
]


def made(finds=FINDS, pictures=100, **fields):
  damage = Damage("set/train", pictures, **fields)
  for find in finds:
    damage.add(*find)
  return damage


def text(damage):
  return json.dumps(damage.to_json())


def test_order_of_the_finds_does_not_matter():
  for finds in itertools.permutations(FINDS):
    assert text(made(finds)) == text(made()) and made(finds) == made()
  assert made().found["damaged"] == {"a.jpg": "a.jpg: another reason"}


def test_a_picture_with_two_faults_counts_once():
  damage = Damage("set/train", 10)
  assert [damage.add(*find) for find in FINDS] == [True, True, False, True, False]
  assert len(damage) == 3 and damage.share() == 0.3
  assert "a.jpg" in damage and "d.jpg" not in damage
  assert damage.unreadable() == {  # sorted, and no captions
    "a.jpg": "a.jpg: another reason",
    "b.jpg": "b.jpg: no such file",
    "c.jpg": "c.jpg: 1 x 1 pixels",
  }
  assert list(damage.unreadable()) == ["a.jpg", "b.jpg", "c.jpg"]


def test_json_and_pickle_are_exact():
  for damage in (made(replaced=7), Damage("set/train", 0)):
    plain = json.loads(text(damage))
    back = Damage.from_json(plain)
    assert back == damage and text(back) == text(damage) and len(back) == len(damage)
    assert pickle.loads(pickle.dumps(damage)) == damage
    back.add("z.jpg", "missing", "z")
    assert "z.jpg" not in damage and plain == damage.to_json()
  assert made().to_json()["bad"] == 3


@pytest.mark.parametrize("cut", range(len(FINDS) + 1))
def test_merging_is_the_union_and_the_sum(cut):
  one, other = made(FINDS[:cut], replaced=2), made(FINDS[cut:], replaced=5)
  for both in (one.merge(other), other.merge(one)):
    assert text(both) == text(made(replaced=7)) and len(both) == 3
  assert one == made(FINDS[:cut], replaced=2)  # left as it was
  assert made().merge(made()) == made()


def test_only_finds_of_one_split_are_merged():
  with pytest.raises(ValueError, match=r"100 pictures.*101 pictures.*one split"):
    made().merge(made(pictures=101))
  with pytest.raises(ValueError, match="'odd', expected one of missing, "):
    made().add("a", "odd", "why")


def test_names_are_all_kept_and_reasons_are_capped(monkeypatch):
  monkeypatch.setattr(damages, "REASONS", 5)
  names = [f"{i:03}.jpg" for i in range(40)]
  finds = [(n, kind, f"{n} " * 100) for n in names for kind in ("missing", "damaged")]
  expected = None
  for seed in range(6):
    random.Random(seed).shuffle(finds)
    whole = made(finds, pictures=1000)
    parts = [made(finds[i::3], pictures=1000) for i in range(3)]
    joined = parts[2].merge(parts[0]).merge(parts[1])
    back = Damage.from_json(json.loads(text(parts[0]))).merge(parts[1]).merge(parts[2])
    expected = expected or text(whole)
    assert text(whole) == text(joined) == text(back) == expected
  for found in whole.found.values():
    assert sorted(found) == names
    assert sorted(n for n in found if found[n]) == names[:5]
    assert {len(found[n]) for n in names[:5]} == {damages.REASON_LENGTH}
  assert set(whole.unreadable()) == set(names)


def test_a_percent_of_five_million_is_fast_and_small():
  damage, start = Damage("set/train", 5_000_000), time.perf_counter()
  order = list(range(50_000))
  random.Random(0).shuffle(order)
  for i in order:
    name = f"images/{i:07}.jpg"
    damage.add(name, "damaged", f"{name}: damaged or truncated " + "x" * 400)
    damage.check(0.02)
  assert time.perf_counter() - start < 20  # about 0.3 s
  assert len(text(damage)) < 50_000 * 40 + damages.REASONS * 400
  assert len(Damage.from_json(damage.to_json())) == 50_000


@pytest.mark.parametrize(
  ("pictures", "limit", "allowed"),
  [
    (0, 0.01, 1),
    (50, 0.0, 0),
    (50, 0.01, 1),  # one is always allowed
    (199, 0.01, 1),
    (200, 0.01, 2),
    (100, 0.29, 29),  # 0.29 * 100 is 28.999999999999996
    (300, 0.01, 3),
    (7, 1.0, 7),
  ],
)
def test_the_limit(pictures, limit, allowed):
  assert Damage("s", pictures).allowed(limit) == allowed
  finds = [(f"{i}.jpg", "damaged", "why") for i in range(allowed)]
  made(finds, pictures).check(limit)
  over = made([*finds, ("one_more.jpg", "damaged", "why")], pictures)
  assert over.over(limit) == (limit < 1)
  if limit < 1:
    with pytest.raises(BadData):
      over.check(limit)


@pytest.mark.parametrize("limit", [-0.01, 1.01, float("nan"), "1%", None, True])
def test_limits_that_are_no_share(limit):
  with pytest.raises(ValueError, match=r"data\.max_broken=.*share from 0"):
    damages.check_limit(limit)


def test_the_explanation_says_what_and_what_to_do():
  finds = [(f"{i}.jpg", "missing", f"{i}.jpg: no such file") for i in range(5)]
  with pytest.raises(DatasetError) as caught:
    made([*FINDS, *finds], pictures=400).check(0.01, "Last checkpoint: step 30.")
  said = str(caught.value)
  assert said.startswith(
    "8 of the 400 pictures of set/train are bad (2 % so far), more"
  )
  assert "data.max_broken=0.01 allows (4):" in said
  assert "  6 missing files: 0.jpg; 1.jpg; 2.jpg; ...\n" in said
  assert "  1 damaged file: a.jpg: another reason\n" in said
  assert "  1 absurd size: c.jpg: 1 x 1 pixels\n" in said
  assert "  1 picture with bad captions: a.jpg: caption 0 is empty\n" in said
  assert "--mode=check" in said and "--config.data.max_broken=" in said
  assert said.endswith("\nLast checkpoint: step 30.")
