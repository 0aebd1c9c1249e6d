"""Scores of a caption's last visit: the table, and the step that keeps it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ga_dms
from tests import layouts, tiny
from tests.layouts import ONE
from tpr_jax import checkpoints as ckpt
from tpr_jax import dual_masking, program, score_table
from tpr_jax.core import sharding
from tpr_jax.losses import mlm

CODE = "GA-DMS, code"


def test_what_was_never_seen_has_the_first_score():
  table = score_table.ScoreTable(captions=10, length=7).create()
  assert table.shape == (score_table.MULTIPLE, 7) and table.dtype == jnp.float16
  found = score_table.read(table, jnp.array([9, 0]), 5)
  assert found.shape == (2, 5) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, dual_masking.FIRST_SCORE, atol=1e-3)


def test_rows_are_written_where_they_belong_and_nowhere_else():
  table = score_table.ScoreTable(10, 6).create()
  new = np.random.default_rng(0).random((3, 4)).astype(np.float32)
  after = jax.jit(score_table.write)(table, jnp.array([7, 1, 4]), new)
  np.testing.assert_allclose(
    score_table.read(after, jnp.array([7, 1, 4]), 4), new, atol=1e-3
  )
  untouched = np.ones(table.shape, bool)
  untouched[[7, 1, 4], :4] = False
  np.testing.assert_array_equal(after[untouched], table[untouched])


def test_a_caption_twice_in_a_batch_does_not_depend_on_the_order():
  table = score_table.ScoreTable(10, 3).create()
  new = jnp.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.0]])
  found = [
    score_table.write(table, jnp.array([2, 2]), rows)[2] for rows in (new, new[::-1])
  ]
  np.testing.assert_array_equal(*found)
  np.testing.assert_allclose(found[0], [0.5, 0.9, 0.0], atol=1e-3)


@functools.cache
def trained():
  """(config, program on one device, [state after 0, 1, 2 steps], metrics)."""
  c, where, built = layouts.build(CODE, ONE)
  state, states, metrics = built.plan.create(jax.random.key(0)), [], []
  states.append(jax.device_get(state))
  for _ in range(2):
    rows = sharding.to_global(layouts.batch(0), sharding.batch_sharding(where))
    state, found = built.step(state, rows, jax.random.key(5))
    states.append(jax.device_get(state))
    metrics.append({k: float(v) for k, v in jax.device_get(found).items()})
  return c, built, states, metrics


def test_the_code_s_preset_is_what_its_column_says():
  dual = ga_dms.get_config("webperson,preset=code").objective.dual
  assert dual.score_refresh == "previous_epoch" and dual.score_norm == "batch"
  assert dual.attn_denominator == "importance" and dual.gass_heads == 1
  assert (dual.corruption_noise, dual.force_one) == ("bert", "both")
  assert dual.sdm_grad_scale == 1 / 8


def test_the_first_visit_is_the_code_s_first_epoch():
  """Score 0.85 everywhere: the noise caption loses its first word and no other, and
  three of ten words are informative."""
  _, _, _, metrics = trained()
  words = (layouts.batch(0)["text"].argmax(axis=1) - 1).sum()
  assert metrics[0]["noise_hidden"] == pytest.approx(layouts.ROWS / words)
  assert metrics[0]["words_hidden"] == pytest.approx(0.3, abs=0.12)


def test_the_second_visit_reads_what_the_first_has_written():
  c, _, states, metrics = trained()
  batch, rows = layouts.batch(0), layouts.ROWS
  first = score_table.ScoreTable(100, c.text.length).create()
  np.testing.assert_array_equal(states[0].scores, first)
  np.testing.assert_array_equal(states[1].scores[rows:], first[rows:])
  made = layouts.objective(CODE)
  mask_key, drop_key = jax.random.split(jax.random.fold_in(jax.random.key(5), 0))
  prepared = dict(made.prepare(batch, mask_key), scores=np.float32(first[:rows]))
  out = jax.jit(made.encode)(states[0].params, prepared, drop_key)
  np.testing.assert_allclose(states[1].scores[:rows], out["scores"], atol=2e-3)
  keys = dual_masking.row_keys(prepared["keys"])[1]
  # Words that score low by now are hidden from SDM, beside forced ones.
  views = made.dual.views(
    keys, batch["text"], score_table.read(states[1].scores, batch["example"], 12)
  )
  assert ((views.noise != batch["text"]).sum(axis=1) > 1).any()
  assert (views.labels != mlm.NOT_CHOSEN).any()
  assert metrics[1]["noise_hidden"] > metrics[0]["noise_hidden"]
  assert metrics[1]["words_hidden"] < metrics[0]["words_hidden"]


def test_the_table_is_saved_and_resumed_on_another_layout(tmp_path):
  _, _, states, _ = trained()
  with_table = states[1]
  saved = ckpt.Checkpoints(tmp_path / "checkpoints")
  saved.save(1, with_table, {"log": {}})
  saved.wait()
  _, _, spread = layouts.build(CODE, "data 2 x fsdp 4")
  assert (
    spread.plan.shardings.scores.spec
    == sharding.batch_sharding(layouts.mesh("data 2 x fsdp 4")).spec
  )
  wanted = ckpt.abstract(spread.plan.shapes, spread.plan.shardings)
  restored, _ = saved.restore(1, wanted)
  assert not restored.scores.is_fully_replicated
  np.testing.assert_array_equal(restored.scores, with_table.scores)
  # A run without a table fits no checkpoint that has one, and says so.
  _, _, plain = layouts.build("GA-DMS", ONE)
  with pytest.raises(ckpt.CheckpointError, match="scores"):
    saved.restore(1, ckpt.abstract(plain.plan.shapes, plain.plan.shardings))
  saved.close()


def test_texts_of_a_shorter_bucket_are_read_and_written_too():
  c, built, _, _ = trained()
  c = c.copy_and_resolve_references().unlock()
  c.text.buckets = (8,)
  lengths = [s["text"].shape[1] for s in program.batch_shapes(c, layouts.mesh(ONE))]
  assert lengths == [8, tiny.LENGTH]
  batch = layouts.batch(3)
  batch["text"] = batch["text"][:, :8].copy()
  batch["text"][:, 7] = np.where(
    (batch["text"] == tiny.VOCAB - 1).any(axis=1), batch["text"][:, 7], tiny.VOCAB - 1
  )
  rows = sharding.to_global(batch, sharding.batch_sharding(layouts.mesh(ONE)))
  state = built.plan.create(jax.random.key(0))
  state, metrics = built.step(state, rows, jax.random.key(5))
  assert np.isfinite(float(metrics["loss"]))
  first = np.float16(dual_masking.FIRST_SCORE)
  assert (np.asarray(state.scores)[:, 8:] == first).all()
  assert (np.asarray(state.scores)[: layouts.ROWS, :8] != first).any()
