"""configs/ga_dms.py: presets, stages, and the schedule of the page's example F."""

import numpy as np
import pytest

from configs import ga_dms, irra, recipe
from tpr_jax import optim
from tpr_jax.losses import dual_masks


def test_the_default_is_the_page_s():
  c = ga_dms.get_config("webperson")
  assert (c.optim.lr, c.data.batch, c.losses.mlm, c.losses.sdm) == (1e-4, 512, 0.4, 1)
  assert (c.optim.eps, c.optim.weight_decay, c.optim.decay) == (1e-3, 4e-5, "l2")
  assert c.train.epochs == 30 and c.optim.groups == () and c.text.length == 77
  assert c.objective.temperature == 0.02 and not c.objective.learn_temperature
  assert (c.model.image_size, c.model.patch) == ((384, 128), (16, 16))
  assert c.data.image == "resize(384,128)|flip(0.5)|pad_crop(10)|erase(0.5)"
  dual = c.objective.dual.to_dict()
  expected = dict(
    score="gass",
    score_layers=8,
    score_scales=(1, 2),
    score_norm="per_sample",
    score_refresh="same_step",
    attn_denominator="attention",
    grad_target="attention",
    gass_heads=0,
    alpha_noise=0.2,
    gamma_noise=0.9,
    alpha_info=0.3,
    gamma_info=0.1,
    sharpness=20.0,
    corruption_noise="mask",
    corruption_mtp="bert",
    force_one="mtp",
    sdm_grad_scale=1.0,
  )
  assert {name: dual[name] for name in expected} == expected
  assert set(dual) - set(expected) == {"score_rows"}
  # The formulas' own defaults are the same numbers.
  p = dual_masks.noise_probability(0.1), dual_masks.informative_probability(0.1)
  np.testing.assert_allclose(p, (0.1, 0.15), rtol=1e-6)


@pytest.mark.parametrize(
  "preset, lr, batch, weight, changed",
  [
    ("default", 1e-4, 512, 0.4, {}),
    (
      "paper",
      1e-4,
      512,
      0.4,
      dict(grad_target="state", corruption_mtp="mask", force_one="none"),
    ),
    (
      "code",
      1e-5,
      1024,
      0.3,
      dict(
        attn_denominator="importance",
        score_norm="batch",
        gass_heads=1,
        score_refresh="previous_epoch",
        corruption_noise="bert",
        force_one="both",
        sdm_grad_scale=0.125,
      ),
    ),
  ],
)
def test_presets_change_what_the_table_says_and_nothing_else(
  preset, lr, batch, weight, changed
):
  c = ga_dms.get_config(f"webperson,preset={preset}")
  assert (c.optim.lr, c.data.batch, c.losses.mlm) == (lr, batch, weight)
  base = ga_dms.get_config("webperson").objective.dual.to_dict()
  assert c.objective.dual.to_dict() == {**base, **changed}


def test_learning_rates_of_thirty_epochs():
  c = ga_dms.get_config("webperson")
  per_epoch = 100
  schedule = optim.make_schedule(
    lr=1.0, steps=30 * per_epoch, steps_per_epoch=per_epoch, **c.optim.schedule
  )
  at = [float(schedule(epoch * per_epoch)) for epoch in range(30)]
  expected = [0.1, 0.28, 0.46, 0.64, 0.82, 1.0, 0.9961, 0.9843]
  np.testing.assert_allclose(at[:8], expected, atol=5e-5)
  np.testing.assert_allclose(
    [at[15], at[19], at[29]], [0.6545, 0.4063, 0.0039], atol=5e-5
  )
  assert float(schedule(per_epoch - 1)) == pytest.approx(at[0])  # per epoch


def test_direct_transfer_is_tested_where_the_benchmarks_are():
  c = ga_dms.get_config("mals,transfer_root=/benchmarks")
  assert list(c.evals) == ["cuhk_pedes", "icfg_pedes", "rstpreid"]
  for name, entry in c.evals.items():
    assert (entry.name, entry.root, entry.split) == (name, "/benchmarks", "test")
  c = ga_dms.get_config("mals,transfer_root=/b,transfer=rstpreid")
  assert list(c.evals) == ["rstpreid"]
  assert not ga_dms.get_config("mals").evals
  # What picks the checkpoint are held-out people of the set itself.
  assert c.data.val == "" and 0 < c.data.val_share < 0.01
  # What the shared options ask for stays.
  c = ga_dms.get_config("mals,overfit=True,cross=/cross")
  assert c.data.val_share == 0 and set(c.evals) == {"train", "cross"}


def test_fine_tuning_is_irra_from_those_weights():
  ours, theirs = ga_dms.get_config("cuhk_pedes"), irra.get_config("cuhk_pedes")
  assert ours.data.batch == 128 and theirs.data.batch == 64
  assert ours.optim.groups == theirs.optim.groups == irra.GROUPS
  assert not ours.objective.mlm_in_place and theirs.objective.mlm_in_place
  assert ours.objective.dual.score == "none" and ours.data.val == "val"
  for part in ("losses", "optim", "train", "text"):
    assert ours[part].to_dict() == theirs[part].to_dict(), part
  assert ga_dms.get_config("cuhk_pedes,lr_groups=flat").optim.groups == ()


def test_the_embedded_run_is_noisy_where_it_trains_and_nowhere_else():
  c = ga_dms.get_config()
  assert c.data.options.word_noise == ga_dms.NOISE
  assert c.data.val_options.word_noise == 0
  assert all(entry.options.word_noise == 0 for entry in c.evals.values())
  assert c.evals.transfer.name == "rendered_target"
  assert c.eval.word_scores.captions > 0
  target = ga_dms.get_config("rendered_target")
  assert target.data.name == "rendered_target" and not target.data.options.word_noise
  assert target.objective.dual.score == "none"


@pytest.mark.parametrize(
  "arg, message",
  [
    ("webperso", "webperson"),
    ("webperson,preset=papers", "default, paper, code"),
    ("cuhk_pedes,lr_groups=none", "irra or flat"),
    ("mals,transfer_root=/b,transfer=cuhk", "cuhk_pedes"),
  ],
)
def test_what_is_misspelt_is_said(arg, message):
  with pytest.raises(ValueError, match=message):
    ga_dms.get_config(arg)


def test_every_name_is_a_stage():
  assert set(ga_dms.NAMES) >= set(recipe.NAMES)
  for name in ga_dms.NAMES:
    c = ga_dms.get_config(name)
    assert (c.objective.dual.score == "none") == (name in ga_dms.FINE_TUNING)
