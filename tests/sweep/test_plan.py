"""What is planned, in which order, and that a mistake is found before any run."""

import pytest
from ml_collections import ConfigDict

from tests.sweep.place import CFAM, R1, ROOT, shipped
from tpr_jax import config as configs
from tpr_jax.sweep import plan


def test_every_row_of_a_seed_comes_before_the_next_seed(place):
  made = place.plan()
  assert [r.folder.name for r in made.runs] == list(R1)
  last = made.runs[-1]
  assert last.arguments == (
    f"--config={CFAM}:rendered",
    "--config.train.steps=3",
    "--config.losses.matching=0",
    "--config.seed=1",
    f"--run={place.out}/B-seed1",
  )
  expected = configs.plain(configs.read(configs.resolve(CFAM)))
  expected["train"]["steps"], expected["losses"]["matching"] = 3, 0.0
  assert last.config == {**expected, "seed": 1}


def test_a_row_wins_over_the_base(place):
  made = place.plan(rows=[("A", CFAM, ("train.steps=7", "optim.lr=1e-3"))])
  assert made.runs[0].config["train"]["steps"] == 7
  assert made.runs[0].config["optim"]["lr"] == 1e-3


def test_phrases_found_are_a_column_where_they_are_looked_for(place):
  rows = [("A", "configs/mra.py", ())]
  names = ("test/pointing", "test/R1")
  made = place.plan(rows=rows, scores=names, base=(), baseline="")
  assert made.scores == names
  for score, fields in (
    ("test_coarse/pointing", ()),  # a test without regions
    ("test.reranked/pointing", ()),
    ("test/pointing", ("eval.localise=0",)),
  ):
    with pytest.raises(configs.ConfigError, match="whose data has regions"):
      place.plan(rows=[("A", "configs/mra.py", fields)], scores=(score,), base=())
  with pytest.raises(configs.ConfigError, match="whose data has regions"):
    place.plan(scores=("test/energy",))


def test_an_override_can_name_the_seed_of_its_run(place):
  places = ("model.init_from=first/A-seed{seed}", "name=s{seed}{seed}")
  made = place.plan(rows=[("A", CFAM, places[1:])], base=places[:1])
  for run in made.runs:
    assert run.config["model"]["init_from"] == f"first/A-seed{run.seed}"
    assert run.config["name"] == f"s{run.seed}{run.seed}"
    assert f"--config.model.init_from=first/A-seed{run.seed}" in run.arguments
  assert [run.seed for run in made.runs] == [0, 1]


def test_the_second_stage_is_a_column_where_every_row_has_one(place):
  scores = ("test/R1", "test.reranked/R1")
  made = place.plan(scores=scores, base=("eval.rerank.by=local",))
  assert all(run.config["eval"]["rerank"]["by"] == "local" for run in made.runs)
  with pytest.raises(configs.ConfigError, match=r"no 'test\.reranked'"):
    place.plan(
      scores=scores,
      rows=[("A", CFAM, ("eval.rerank.by=local",)), ("B", CFAM, ())],
    )


def row(*overrides, value=CFAM):
  return dict(rows=[("A", CFAM, ()), ("last row", value, overrides)])


@pytest.mark.parametrize(
  ("fields", "parts"),
  [
    (row("train.stepz=5"), ["'last row'", "--config.train.steps?"]),
    (row("train.steps=some"), ["'last row'", "--config.train.steps=some"]),
    (row(value=f"{CFAM}:rendred"), ["'last row'", "'rendered'"]),
    (row(value="configs/cfm.py"), ["'last row'", "configs/cfam.py"]),
    (row(value="configs/sweeps.py"), ["'last row'", "a sweep itself"]),
    (dict(base=("train.stepz=5",)), ["'A'", "--config.train.steps?"]),
    (row("train.steps"), ["'train.steps'", "FIELD=VALUE"]),
    (row("--config.train.steps=5"), ["FIELD=VALUE", "'train.steps=500'"]),
    (row("seed=5"), ["'seed=5'", "seeds=(0, 1, 2)"]),
    (dict(rows=[("A", CFAM, "train.steps=5")]), ["rows", "(override, ...)"]),
    (dict(rows=[]), ["rows"]),
    (
      dict(rows=[("A b", CFAM, ()), ("a/b", CFAM, ())], baseline=""),
      ["'A b'", "'a/b'"],
    ),
    (dict(rows=[("++", CFAM, ())], baseline=""), ["'++'", "letters"]),
    (dict(scores=("tets/R1",)), ["'tets/R1'", "test, test_coarse"]),
    (dict(scores=("test/R2",)), ["'test/R2'", "R1, R5"]),
    (dict(scores=("test.reranked/R1",)), ["'test.reranked/R1'", "test, test_coarse"]),
    (
      dict(scores=("test.reranked/mSD",), base=("eval.rerank.by=local",)),
      ["'test.reranked/mSD'", "no mSD"],
    ),
    (dict(scores=()), ["scores"]),
    (dict(baseline="C"), ["'C'", "A, B"]),
    (dict(seeds=()), ["seeds"]),
    (dict(seeds=(0, 1, 0)), ["seeds=(0, 1, 0)", "twice"]),
    (dict(seeds=(0.5,)), ["seeds=(0.5,)"]),
    (dict(jobs=0), ["jobs=0"]),
  ],
  ids=lambda value: repr(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_in_any_row_is_found_before_the_first_run(place, fields, parts):
  with pytest.raises(configs.ConfigError) as caught:
    place.run(**fields)
  for part in parts:
    assert part in str(caught.value)
  assert not place.out.exists() and place.starts() == []


def test_a_sweep_that_lacks_a_field_says_so(tmp_path):
  config = ConfigDict(dict(rows=(), seeds=(0,)))
  assert plan.is_sweep(config)
  with pytest.raises(configs.ConfigError, match="no name, scores, base"):
    plan.build(config, tmp_path)


# ---- the sweeps that ship


def shipped_sweeps():
  module = shipped("sweeps")
  return {name: module.get_config(name) for name in module.NAMES}


SHIPPED = shipped_sweeps()
NEEDED = {
  value.partition(":")[0] for sweep in SHIPPED.values() for _, value, _ in sweep.rows
}
MISSING = sorted(file for file in NEEDED if not (ROOT / file).is_file())


@pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}")
@pytest.mark.parametrize(
  ("name", "row"), [(name, r[0]) for name, s in SHIPPED.items() for r in s.rows]
)
def test_every_row_that_ships_builds(tmp_path, name, row):
  sweep = SHIPPED[name].copy_and_resolve_references()
  sweep.rows = tuple(r for r in sweep.rows if r[0] == row)
  sweep.baseline = ""
  made = plan.build(sweep, tmp_path)
  assert [r.seed for r in made.runs] == [0, 1, 2]
  assert all(r.config["data"]["name"].startswith("rendered") for r in made.runs)


def test_what_ships():
  rows = {name: [r[0] for r in sweep.rows] for name, sweep in SHIPPED.items()}
  assert rows == {
    "ablation": ["InfoNCE", "+ L_gs", "+ L_ls", "+ L_m", "+ L_cid"],
    "baselines": ["CLIP", "IRRA", "CFAM"],
    "granularity": [f"trained on {text}" for text in ("fine", "medium", "coarse")],
    "ga_dms": [
      *(
        f"{noise}% wrong, {score}"
        for noise in (0, 10, 30, 50)
        for score in ("none", "gass")
      ),
      "30% wrong, cosine",
      "30% wrong, random",
    ],
    "mra": ["without regions", "with regions"],
    "mra_tuned": [
      "no pre-training",
      "pre-trained without regions",
      "pre-trained with regions",
    ],
    "kept": [
      "right captions",
      "all",
      *("90 %", "70 %", "70 %, same epochs", "50 %", "50 %, same epochs"),
    ],
    "few_weights": ["full", "lora", "dora", "wora"],
  }
  numbered = [value for _, value, _ in SHIPPED["ablation"].rows]
  assert numbered == [f"{CFAM}:rendered,ablation={number}" for number in range(5)]
  assert SHIPPED["granularity"].scores[-1] == "test_mixed/R1"
  assert shipped("sweeps").get_config() == SHIPPED["ablation"]
