"""Token scores of GA-DMS: the page's worked examples, and a slow transcription."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference import gass as reference
from tpr_jax.ops import token_scores


def pooled(x, scales, rows=None):
  length = len(x)
  matrix = token_scores.pooling(jnp.array([rows or length]), length, scales)[0]
  return np.asarray(matrix @ jnp.asarray(x, jnp.float32))


def test_the_worked_example_of_pooling():
  x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
  np.testing.assert_allclose(pooled(x, (2,)), [1.5, 2.3, 3.5, 4.4, 5.0], atol=1e-6)
  np.testing.assert_allclose(pooled(x, (1, 2)), [1.25, 2.15, 3.25, 4.2, 5.0], atol=1e-6)


@pytest.mark.parametrize("length", [2, 7, 12, 77])
@pytest.mark.parametrize("scales", [(1,), (2,), (1, 2), (1, 3, 4)])
def test_pooling_is_the_transcription(length, scales):
  x = np.random.default_rng(length).normal(size=(length, 3))
  np.testing.assert_allclose(pooled(x, scales), reference.pool(x, scales), atol=1e-5)


def test_pooling_of_the_first_rows_reads_no_other():
  x = np.random.default_rng(0).normal(size=(12, 3))
  few = pooled(x, (1, 2), rows=7)
  np.testing.assert_allclose(few[:7], reference.pool(x[:7], (1, 2)), atol=1e-6)


def drawn(ends=(4, 9, 1), length=12, width=6, seed=0):
  rng = np.random.default_rng(seed)
  q, k = rng.normal(size=(2, len(ends), length, width)).astype(np.float32)
  return q, k, np.asarray(ends)


@pytest.mark.parametrize("rows", token_scores.ROWS)
def test_the_spatial_weight_is_the_transcription(rows):
  q, k, ends = drawn()
  found = np.asarray(token_scores.spatial_weight(q, k, ends, rows=rows))
  for row, end in enumerate(ends):
    count = 12 if rows == "all" else end + 1
    expected = reference.weight(q[row], k[row], end, rows=count)
    np.testing.assert_allclose(found[row, :count], expected, atol=2e-6)
    assert not found[row, count:].any()


def test_padding_changes_the_weight_only_where_all_rows_are_pooled():
  q, k, ends = drawn()
  moved_q, moved_k = q.copy(), k.copy()
  for row, end in enumerate(ends):
    moved_q[row, end + 1 :] += 1.0
    moved_k[row, end + 1 :] -= 2.0
  for rows, same in (("text", True), ("all", False)):
    before = token_scores.spatial_weight(q, k, ends, rows=rows)
    after = token_scores.spatial_weight(moved_q, moved_k, ends, rows=rows)
    assert bool(jnp.all(before == after)) is same


# The page's example C: BOS a b c EOS PAD.
G = np.array([[1.0, -0.5]], np.float32)
V = np.array(
  [[[0.2, 0.1], [1, 0.4], [0.5, 0.5], [-0.4, 0.2], [0.3, 0], [0, 0]]], np.float32
)
W = np.array([[0, 0.6, 1, 0.2, 0.8, 0.1]], np.float32)
A = np.array([[0.4, 0.2, 0.15, 0.05, 0.2, 0]], np.float32)
VALID = token_scores.words(jnp.array([4]), 6)


def finished(importance, **options):
  layer = token_scores.layer_score(importance, A, VALID, **options)
  whole = token_scores.combine([layer], VALID)
  return whole[0], token_scores.normalise(whole)[0]


def test_the_worked_example_of_one_layer():
  importance = token_scores.importance(G, V, W)
  np.testing.assert_allclose(importance[0], [0, 0.48, 0.25, -0.1, 0.24, 0], atol=1e-6)
  np.testing.assert_array_equal(VALID[0], [0, 1, 1, 1, 0, 0])
  whole, score = finished(importance)
  np.testing.assert_allclose(whole, [0, 0.24, 0.09375, 0, 0, 0], atol=1e-6)
  np.testing.assert_allclose(score, [0, 1, 0.390625, 0, 0, 0], atol=1e-6)
  whole, score = finished(importance, denominator="importance")
  np.testing.assert_allclose(whole, [0, 0.11034, 0.04310, 0, 0, 0], atol=1e-5)
  np.testing.assert_allclose(score, [0, 1, 0.390625, 0, 0, 0], atol=1e-5)


def test_a_negative_sum_of_importance_turns_the_code_s_ranking_round():
  importance = token_scores.importance(G, V, W).at[0, 4].set(-1.0)
  whole, score = finished(importance, denominator="importance")
  np.testing.assert_allclose(whole[1:4], [0, 0, 0.0135], atol=2e-5)
  np.testing.assert_allclose(score[1:4], [0, 0, 1], atol=1e-6)
  _, score = finished(importance)  # the paper's does not notice
  np.testing.assert_allclose(score[1:4], [1, 0.390625, 0], atol=1e-6)


def test_layers_are_averaged_before_the_relu():
  layers = [jnp.array([[0.0, 3.0, -1.0]]), jnp.array([[0.0, -1.0, -1.0]])]
  found = token_scores.combine(layers, jnp.array([[False, True, True]]))
  np.testing.assert_allclose(found, [[0, 1.0, 0]])


def test_normalisation_of_a_caption_and_of_a_batch():
  score = jnp.array([[0.0, 2.0, 1.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
  each = token_scores.normalise(score)
  np.testing.assert_allclose(each, [[0, 1, 0.5], [0, 1, 0], [0, 0, 0]])
  whole = token_scores.normalise(score, "batch")
  np.testing.assert_allclose(whole, np.asarray(score) / 2.0)
  assert not np.any(token_scores.normalise(jnp.zeros((2, 3)), "batch"))


def test_best_cosine_is_the_loop():
  rng = np.random.default_rng(3)
  text, patches = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 7, 4))
  valid = np.array([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]], bool)
  found = np.asarray(jax.jit(token_scores.best_cosine)(text, patches, valid))
  best = [
    max(reference.cosine(text[0, j], patches[0, p]) for p in range(7))
    for j in (1, 2, 3)
  ]
  expected = (np.array(best) - min(best)) / (max(best) - min(best))
  np.testing.assert_allclose(found[0, 1:4], expected, atol=1e-5)
  np.testing.assert_array_equal(found[1], [0, 1, 0, 0, 0])  # a word alone
  assert not found[~valid].any()
  assert not np.any(token_scores.best_cosine(text, patches, np.zeros((2, 5), bool)))


@pytest.mark.parametrize(
  "call",
  [
    lambda: token_scores.normalise(jnp.zeros((1, 2)), "epoch"),
    lambda: token_scores.layer_score(*[jnp.zeros((1, 2))] * 3, denominator="none"),
    lambda: token_scores.spatial_weight(*drawn(), rows="words"),
  ],
)
def test_unknown_choices(call):
  with pytest.raises(ValueError, match="expected one of"):
    call()
