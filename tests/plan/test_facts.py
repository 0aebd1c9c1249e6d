"""What a plan takes from nowhere: people, vocabulary, dtype; and what it refuses."""

import types

import pytest

from tpr_jax import config as configs
from tpr_jax.core import sharding
from tpr_jax.data import tokenizer
from tpr_jax.plan import chips, facts, program
from tpr_jax.plan.problems import PlanError


def config(value, *overrides):
  configs.expose_shipped()
  return configs.overridden(configs.resolve(f"configs/{value}"), overrides)


@pytest.mark.parametrize(
  ("value", "people"),
  [
    ("cfam.py:cuhk_pedes", 11_003),
    ("irra.py:rstpreid", 3_701),
    ("cfam.py:icfg_pedes", 3_102 - 155),  # 5 % are held out for validation
    ("cfam.py:ufine6926", 4_926 - 246),
  ],
)
def test_people_come_from_the_published_counts(value, people):
  assert facts.identities(config(value), None)[0] == people


def test_people_of_other_data_are_asked_for_or_drawn():
  with pytest.raises(PlanError, match="--classes=N"):
    facts.identities(config("cfam.py:folder"), None)
  assert facts.identities(config("cfam.py:folder"), 77) == (77, "--classes")
  few = config("cfam.py", "data.options.identities=12", "data.options.views=1")
  assert facts.identities(few, None)[0] == 12


def test_clips_vocabulary_needs_no_file():
  own = tokenizer.build("instant") if _instant() else None
  for spec in ("auto", "instant", "clip:nowhere/at-all", "merges:/no/file.gz"):
    found = facts.vocabulary(config("cfam.py:cuhk_pedes", f"text.tokenizer={spec}"))
    assert found.vocab_size == 49_408
    for name in ("vocab_size", "mask_id", "start_id", "end_id") if own else ():
      assert getattr(found, name) == getattr(own, name), name


def _instant():
  try:
    return tokenizer.build("instant")
  except tokenizer.TokenizerError:
    return None


def test_other_vocabularies_are_read():
  assert facts.vocabulary(config("cfam.py")).vocab_size < 5_000  # people
  with pytest.raises(tokenizer.TokenizerError, match=r"no tokenizer\.json"):
    facts.vocabulary(config("cfam.py:cuhk_pedes", "text.tokenizer=json:/nowhere"))


def test_auto_is_the_dtype_of_the_planned_device():
  auto = config("cfam.py:cuhk_pedes")
  dtype = lambda name, c=auto: program.fields(c, chips.parse(name))["dtype"]
  assert dtype("v5e:2x4") == "bfloat16" and dtype("cpu:8") == "float32"
  given = config("cfam.py:cuhk_pedes", "model.dtype=float32")
  assert dtype("v5e:2x4", given) == "float32"
  assert auto.model.dtype == "auto"


def test_a_batch_that_cannot_be_split_is_named():
  mesh = types.SimpleNamespace(shape=dict(data=8, fsdp=2, tensor=1))
  assert sharding.batch_shards(mesh) == 16
  good = config("cfam.py:cuhk_pedes", "data.batch=64", "train.micro_batches=4")
  program.check_batch(good, mesh)
  bad = config("cfam.py:cuhk_pedes", "data.batch=64", "train.micro_batches=8")
  with pytest.raises(ValueError, match=r"data\.batch=64 .*micro_batches=8 over 16"):
    program.check_batch(bad, mesh)


def test_what_the_compiler_says_of_memory_is_read():
  said = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory"
    " space hbm. Used 23.50G of 15.75G hbm. Exceeded hbm capacity by 7.75G.\n\nTotal"
  )
  found = program.problem(RuntimeError(said))
  assert found["status"] == program.TOO_LARGE
  assert found["needed"] == 23.5 * 2**30
  assert found["message"].endswith("by 7.75G.")
  other = program.problem(ValueError("mesh: needs 8 devices"))
  assert other == dict(
    status=program.FAILED, message="ValueError: mesh: needs 8 devices"
  )
