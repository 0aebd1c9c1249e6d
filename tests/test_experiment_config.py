"""What an experiment makes of its config before the first batch: checks and data."""

import pytest

from tests import small_run
from tpr_jax import config as configs
from tpr_jax import training
from tpr_jax.experiment import Experiment


@pytest.mark.parametrize(
  ("section", "change", "message"),
  [
    ("data", dict(image="resize(32,24)"), r"data.image=.*\(32, 24\).*\(32, 16\)"),
    ("data", dict(eval_image="resize(16,32)"), r"data.eval_image=.*\(16, 32\)"),
    ("data", dict(image="flip(0.5)"), r"different sizes.*model.image_size"),
    ("data", dict(image="resiz(32,16)"), "did you mean 'resize'"),
    ("data", dict(batch=12), "data.batch=12 cannot be split evenly over 8 devices"),
    ("eval", dict(batch=100), "eval.batch=100 cannot be split evenly over 8 devices"),
    ("eval", dict(msd_variant="papr"), "eval.msd_variant='papr'.*paper"),
    ("eval", dict(ci_level=95.0), "ci_level=95.0: expected a share between 0 and 1"),
    ("eval", dict(ci_resamples=10), "ci_resamples=10: an interval of level 0.95 needs"),
    ("train", dict(select="r1"), "train.select='r1'.*R1"),
    ("objective", dict(negatives="locl"), "objective.negatives='locl'"),
    ("optim", dict(decay="l3"), "optim.decay='l3'"),
    ("optim", dict(groups=(("visul/", 1.0, 1.0),)), "'visul/' matches no parameter"),
    ("losses", dict(sdm=-1.0), "must not be negative"),
    ("model", dict(activation="gelo"), "unknown activation 'gelo'"),
    (None, dict(shardings=((".*", "fsd"),)), "unknown rule 'fsd'"),
    (None, dict(shardings=(("visul/", "fsdp"), "auto")), "'visul/' matches no param"),
    (
      None,
      dict(mesh=dict(fsdp=2), shardings=((".*", "replicate"),)),
      "mesh.fsdp=2: .* split no parameter",
    ),
  ],
)
def test_a_config_that_cannot_work_is_named_before_training(
  tmp_path, section, change, message
):
  config = small_run.config()
  (config[section] if section else config).update(change)
  folder = tmp_path / "run"
  with pytest.raises(configs.ConfigError, match=message):
    training.run(Experiment(config, folder))
  assert not folder.exists()  # so the corrected command can use it


def test_a_mesh_that_does_not_fit_is_named(tmp_path):
  config = small_run.config()
  config.mesh.data = 3
  with pytest.raises(configs.ConfigError, match="needs 3 devices, found 8"):
    Experiment(config, tmp_path)


# ---- validation data


def test_identities_are_held_out_where_the_source_has_no_val(tmp_path):
  config = small_run.config()
  config.data.val, config.data.val_share = "", 0.25
  made = Experiment(config, tmp_path)
  kept, aside = made.training_data()
  assert len(kept.identities) == 9 and len(aside.identities) == 3
  assert not set(kept.identities) & set(aside.identities)
  config.seed = 5  # another run, the same people: runs stay comparable
  assert made.training_data()[1].identities == aside.identities
  config.data.val_seed = 1
  assert made.training_data()[1].identities != aside.identities


def test_no_validation_at_all_is_a_field(tmp_path):
  config = small_run.config()
  config.data.val = ""
  kept, aside = Experiment(config, tmp_path).training_data()
  assert aside is None and len(kept.identities) == 12


def test_an_evaluation_takes_the_options_of_training_unless_told_otherwise(tmp_path):
  config = small_run.config()
  config.data.options.style = "list"
  made = Experiment(config, tmp_path)
  fine, coarse = made.eval_data("test"), made.eval_data("test_coarse")
  assert fine.split == coarse.split == "test" and len(fine.records) == 10
  told = {t["style"] for r in fine.records for t in r.truth["caption_truth"]}
  assert told == {"list"}
  grains = {t["granularity"] for r in coarse.records for t in r.truth["caption_truth"]}
  assert grains == {"coarse"}
  config.evals.test.name = "rendered_cross"  # another dataset: its own options only
  assert {
    t["style"] for r in made.eval_data("test").records for t in r.truth["caption_truth"]
  } != {"list"}
