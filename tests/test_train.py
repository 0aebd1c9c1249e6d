"""The loop: interrupted equals uninterrupted, bad numbers stop it, scores select."""

import json
import os
import signal

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.data.noise import dataset
from tpr_jax import train
from tpr_jax.bad_data import Watch
from tpr_jax.checkpoints import Checkpoints, abstract
from tpr_jax.core import sharding, tree
from tpr_jax.data import pipeline, tokenizer
from tpr_jax.data.damage import BadData, Damage
from tpr_jax.meter import CLOCK, Meter
from tpr_jax.run_log import RunLog

STEPS, BATCH, SEED = 12, 4, 3
RULES = ((".*", "replicate"),)
SCHEDULE = optax.cosine_decay_schedule(0.05, STEPS)
TX = optax.adam(SCHEDULE)
PIPE = "resize(8,4)|flip(0.5)|erase(0.5)"


def init_fn(key):
  return {"w": jax.random.normal(key, (8, 4)), "b": jnp.zeros(4)}


def loss_fn(params, batch, key):
  """Cheap, and a function of all there is: pixels, words, labels, the step's key."""
  pixels = batch["image"].reshape(batch["image"].shape[0], -1, 8).mean(1) / 255.0
  words = jnp.tanh(batch["text"][:, :4] / 100.0)
  out = pixels @ params["w"] + params["b"]
  noise = 0.1 * jax.random.normal(key, out.shape)
  fit = jnp.mean((out - words - noise) ** 2)
  label = jnp.mean((out[:, 0] - batch["ids"]) ** 2)
  return fit + label, {"fit": fit, "label": label}


class Loop:
  """One compiled step, and runs of it in a folder."""

  def __init__(self, loss=loss_fn, init=init_fn, tx=TX):
    self.mesh = sharding.make_mesh(dict(data=2), jax.devices()[:2])
    plan = train.state_plan(init, tx, self.mesh, RULES)
    state, self.state_sh = plan.create(jax.random.key(SEED)), plan.shardings
    self.start = jax.device_get(state)
    grad_fn = jax.value_and_grad(loss, has_aux=True)
    self.step = train.make_train_step(grad_fn, tx, SCHEDULE, self.mesh, self.state_sh)

  def batches(self):
    return pipeline.train_iterator(
      dataset(), PEOPLE, pipe=PIPE, length=8, batch=BATCH, seed=SEED, threads=1
    )

  def run(self, folder, wrap=lambda batches: batches, **options):
    """Starts or resumes, exactly as an experiment does; -> last state."""
    batches, saved = self.batches(), Checkpoints(folder / "checkpoints")
    meta = {}
    state = jax.device_put(jax.tree.map(np.copy, self.start), self.state_sh)
    if saved.latest() is not None:
      ask = abstract(state, self.state_sh)
      state, meta = saved.restore(saved.latest(), ask)
      batches.set_state(meta["data"])
    log = RunLog(folder, first_step=int(state.step), steps=STEPS, meter=Meter(BATCH))
    given = dict(
      state=state,
      train_step=self.step,
      batches=wrap(batches),
      mesh=self.mesh,
      seed=SEED,
      steps=STEPS,
      log=log,
      log_every=5,
      checkpoints=saved,
      save_every=4,
      meta={},
      carried=meta.get("log"),
    )
    try:
      return jax.device_get(train.fit(**{**given, **options}))
    finally:
      log.close()
      saved.close()


PEOPLE = tokenizer.build("people")


@pytest.fixture(scope="module")
def loop():
  return Loop()


@pytest.fixture(scope="module")
def straight(loop, tmp_path_factory):
  """(last state, metrics.jsonl as dicts) of a run that nothing disturbed."""
  folder = tmp_path_factory.mktemp("straight")
  state = loop.run(folder, **scored())
  return state, lines(folder)


def lines(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def steps_of(folder, kind):
  return [line["step"] for line in lines(folder) if line["kind"] == kind]


def kept(folder):
  saved = Checkpoints(folder / "checkpoints", read_only=True)
  found = saved.latest(), saved.best(), saved.scores()
  saved.close()
  return found


def scored(scores=(10.0, 30.0, 20.0), every=4):
  """fit() arguments for validations that give `scores` one after the other."""
  by_step = {every * (n + 1): score for n, score in enumerate(scores)}

  def validate(params):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    validate.step = next(s for s in by_step if s > validate.step)
    return {"R1": by_step[validate.step], "mAP": 1.0}

  validate.step = 0
  return dict(validate=validate, eval_every=every)


def assert_identical(found, expected):
  for name, a, b in zip(
    tree.names(expected), jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.tobytes() == b.tobytes(), name


class Signalled(grain.DatasetIterator):
  """The iterator, with signals to this process when batch number `at` is asked for."""

  def __init__(self, batches, at, *signals):
    super().__init__()
    self._batches, self._at, self._signals = batches, at, signals
    self._asked = 0

  def __next__(self):
    self._asked += 1
    if self._asked == self._at:
      for number in self._signals:
        os.kill(os.getpid(), number)
    return next(self._batches)

  def get_state(self):
    return self._batches.get_state()

  def set_state(self, state):
    self._batches.set_state(state)


@pytest.mark.parametrize(
  ("number", "at"),
  # 8: where a checkpoint is due anyway
  [(signal.SIGTERM, 1), (signal.SIGTERM, 6), (signal.SIGINT, 6), (signal.SIGTERM, 8)],
)
def test_interrupted_and_resumed_equals_straight_through(
  loop, straight, tmp_path, number, at
):
  before = signal.getsignal(number)
  options = scored()
  with pytest.raises(train.Interrupted) as caught:
    loop.run(tmp_path, lambda b: Signalled(b, at, number), **options)
  assert signal.getsignal(number) is before
  assert (caught.value.signum, caught.value.step) == (number, at)
  assert f"{number.name} after step {at}" in str(caught.value)
  assert kept(tmp_path)[0] == at
  assert_identical(loop.run(tmp_path, **options), straight[0])
  assert timeless(lines(tmp_path)) == timeless(straight[1])


def timeless(entries):
  """The lines of a log without what depends on the clock."""
  return [{k: v for k, v in entry.items() if k not in CLOCK} for entry in entries]


def test_a_signal_at_the_last_step_leaves_too(loop, straight, tmp_path):
  # What would follow is the evaluation, minutes that a stopped job does not have.
  with pytest.raises(train.Interrupted) as caught:
    loop.run(tmp_path, lambda b: Signalled(b, STEPS, signal.SIGTERM))
  assert caught.value.step == STEPS
  assert kept(tmp_path)[0] == STEPS
  assert_identical(loop.run(tmp_path), straight[0])


def test_a_second_signal_acts_at_once(loop, tmp_path):
  twice = lambda b: Signalled(b, 2, signal.SIGINT, signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    loop.run(tmp_path, twice)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_killed_without_warning_repeats_from_the_last_checkpoint(
  loop, straight, tmp_path
):
  class Killed(Signalled):
    def __next__(self):
      if self._asked == 7:
        raise MemoryError
      return super().__next__()

  with pytest.raises(MemoryError):
    loop.run(tmp_path, lambda b: Killed(b, 0), **scored(), log_every=1)
  assert kept(tmp_path)[0] == 4 and steps_of(tmp_path, "train")[-1] == 7
  assert_identical(loop.run(tmp_path, **scored(), log_every=1), straight[0])
  assert steps_of(tmp_path, "train") == list(range(1, STEPS + 1))
  loop.run(tmp_path / "straight", **scored(), log_every=1)
  both = [timeless(lines(folder)) for folder in (tmp_path, tmp_path / "straight")]
  trained = [[line for line in log if line["kind"] == "train"] for log in both]
  assert trained[0] == trained[1]


def test_a_finished_run_is_not_run_again(loop, straight, tmp_path):
  loop.run(tmp_path)
  text = (tmp_path / "metrics.jsonl").read_text()
  never = lambda batches: iter(())
  assert_identical(loop.run(tmp_path, never), straight[0])
  assert (tmp_path / "metrics.jsonl").read_text() == text


# ---- numbers that are not finite


def poison(params, batch, key):
  """A batch marked 1 has a NaN loss; one marked 2 a finite loss, a bad gradient."""
  loss, terms = loss_fn(params, batch, key)
  terms["bad"] = jnp.where(batch["bad"][0] == 1, jnp.nan, 0.0)
  # sqrt(0) is 0, its gradient is not finite.
  hidden = jnp.sqrt(jnp.where(batch["bad"][0] == 2, 0.0, 1.0) * params["b"][0] ** 2)
  return loss + terms["bad"] + hidden, terms


class Poisoned(Signalled):
  def __init__(self, batches, at, kind):
    super().__init__(batches, 0)
    self._bad_at, self._kind = at, kind

  def __next__(self):
    batch = dict(super().__next__())
    bad = self._kind if self._asked == self._bad_at else 0
    batch["bad"] = np.full(BATCH, bad, np.int32)
    return batch


@pytest.fixture(scope="module")
def poisoned():
  return Loop(poison, lambda key: {**init_fn(key), "b": jnp.ones(4)})


@pytest.mark.parametrize("kind", [1, 2], ids=["loss", "gradient"])
@pytest.mark.parametrize(
  ("log_every", "validated"), [(1, False), (5, False), (5, True)]
)
def test_not_finite_stops_with_step_terms_and_checkpoint(
  poisoned, tmp_path, kind, log_every, validated
):
  options = dict(log_every=log_every, **(scored() if validated else {}))
  with pytest.raises(train.NonFiniteLoss) as caught:
    # Step 8 is bad, and a checkpoint is due at step 8.
    poisoned.run(tmp_path, lambda b: Poisoned(b, 8, kind), **options)
  message = str(caught.value)
  assert "at step 8:" in message
  for name in ("loss", "fit", "label", "bad", "grad_norm", "lr"):
    assert f"{name} " in message
  assert "Last good checkpoint: step 4" in message and str(tmp_path) in message
  assert kept(tmp_path) == ((4, 4, {4: 10.0}) if validated else (4, None, {}))
  saved = Checkpoints(tmp_path / "checkpoints", read_only=True)
  ask = abstract(poisoned.start, poisoned.state_sh)
  for leaf in jax.tree.leaves(jax.device_get(saved.restore(4, ask)[0])):
    assert np.isfinite(leaf).all()
  saved.close()
  assert max(steps_of(tmp_path, "train")) < 8


def test_not_finite_before_any_checkpoint_says_so(poisoned, tmp_path):
  with pytest.raises(train.NonFiniteLoss, match="step 1: ") as caught:
    poisoned.run(tmp_path, lambda b: Poisoned(b, 1, 1))
  assert "Last good checkpoint: none" in str(caught.value)
  assert kept(tmp_path) == (None, None, {})


def test_not_finite_found_while_stopping_is_not_saved(poisoned, tmp_path):
  class Both(Poisoned):
    def __next__(self):
      if self._asked == 5:
        os.kill(os.getpid(), signal.SIGTERM)
      return super().__next__()

  with pytest.raises(train.NonFiniteLoss, match="at step 6:"):
    poisoned.run(tmp_path, lambda b: Both(b, 6, 1), log_every=50)
  assert kept(tmp_path)[0] == 4


# ---- selection


@pytest.mark.parametrize(
  ("scores", "best"),
  [((10.0, 30.0, 20.0), 8), ((30.0, 20.0, 10.0), 4), ((5.0, 9.0, 9.0), 12)],
)
def test_the_validation_score_selects(loop, tmp_path, scores, best):
  loop.run(tmp_path, **scored(scores))
  latest, found, by_step = kept(tmp_path)
  assert (latest, found) == (STEPS, best)
  assert by_step[best] == max(scores)
  values = [line for line in lines(tmp_path) if line["kind"] == "val"]
  assert [(v["step"], v["R1"]) for v in values] == list(
    zip((4, 8, 12), scores, strict=True)
  )


def test_another_score_can_select(loop, tmp_path):
  loop.run(tmp_path, **scored(), select="mAP")
  assert kept(tmp_path)[1:] == (12, {8: 1.0, 12: 1.0})


def test_the_last_step_is_validated_and_saved_off_the_beat(loop, tmp_path):
  loop.run(tmp_path, **scored((10.0, 20.0), every=8), save_every=8)
  assert steps_of(tmp_path, "val") == [8, 12]
  assert kept(tmp_path)[2] == {8: 10.0, 12: 20.0}


def test_without_validation_the_last_step_is_the_checkpoint(loop, tmp_path):
  loop.run(tmp_path, save_every=0)
  assert kept(tmp_path) == (STEPS, None, {})
  assert steps_of(tmp_path, "train") == [5, 10, 12]


def test_logged_numbers_are_means_and_broken_pictures_are_counted(loop, tmp_path):
  class Broken(Signalled):
    def __next__(self):
      batch = dict(super().__next__())
      batch["replaced"] = np.array([-1, 7, -1, 0], np.int32)
      return batch

  loop.run(tmp_path / "each", lambda b: Broken(b, 0), log_every=1)
  loop.run(tmp_path / "five", log_every=5, save_every=0)
  each, five = lines(tmp_path / "each"), lines(tmp_path / "five")
  assert [line["replaced_images"] for line in each] == list(range(2, 2 * STEPS + 1, 2))
  for key in ("loss", "fit", "label", "grad_norm"):
    mean = np.mean([line[key] for line in each[5:10]])
    assert five[1][key] == pytest.approx(mean, rel=1e-6)
  assert five[1]["lr"] == pytest.approx(float(SCHEDULE(9)))


# ---- one step


def test_randomness_is_a_function_of_seed_and_step(loop):
  batch = next(loop.batches())
  batch = sharding.to_global(batch, sharding.batch_sharding(loop.mesh))

  def fit(step, seed):
    state = loop.start.replace(step=np.int32(step))
    state = jax.device_put(jax.tree.map(np.copy, state), loop.state_sh)
    return float(loop.step(state, batch, jax.random.key(seed))[1]["fit"])

  assert fit(3, 0) == fit(3, 0)
  assert len({fit(3, 0), fit(4, 0), fit(3, 1)}) == 3


def test_the_state_given_to_a_step_is_donated(loop):
  state = jax.device_put(jax.tree.map(np.copy, loop.start), loop.state_sh)
  batch = next(loop.batches())
  batch = sharding.to_global(batch, sharding.batch_sharding(loop.mesh))
  loop.step(jax.tree.map(jnp.copy, state), batch, jax.random.key(0))  # compiled
  given = jax.tree.map(jnp.copy, state)
  loop.step(given, batch, jax.random.key(0))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))


# ---- bad data


def test_too_much_bad_data_stops_and_names_the_checkpoint(loop, straight, tmp_path):
  damage = Damage("noise/train", 100)

  class Rotting(Signalled):
    def __next__(self):
      batch = super().__next__()
      if self._asked >= 5:
        damage.add(f"{self._asked}.png", "damaged", f"{self._asked}.png: cut short")
      return batch

  with pytest.raises(BadData) as caught:
    loop.run(tmp_path, lambda b: Rotting(b, 0), bad=Watch(lambda: damage, 0.02))
  said = str(caught.value)
  assert said.startswith("3 of the 100 pictures of noise/train are bad")
  assert said.endswith(
    f"Last checkpoint: step 4 in {tmp_path / 'checkpoints'}. The same command goes on"
    " from there once the data was mended."
  )
  assert kept(tmp_path)[0] == 4
  mended = Damage("noise/train", 100, replaced=2)
  last = loop.run(tmp_path, bad=Watch(lambda: mended, 0.02))
  assert_identical(last, straight[0])
  saved = Checkpoints(tmp_path / "checkpoints", read_only=True)
  assert Damage.from_json(saved.meta(STEPS)["damage"]) == mended
  saved.close()


@pytest.mark.parametrize(("at", "where"), [(2, "none"), (6, "step 4")])
def test_a_batch_that_cannot_be_read_names_the_checkpoint(loop, tmp_path, at, where):
  class Gone(Signalled):
    def __next__(self):
      if self._asked == at:
        raise BadData("9 pictures in a row cannot be read")
      return super().__next__()

  with pytest.raises(BadData, match=rf"in a row cannot be read\n.*{where} in .*mended"):
    loop.run(tmp_path, lambda b: Gone(b, 0))
