"""The engine below the server: batches, the bounded queue, what is kept."""

import asyncio

import numpy as np
import pytest

from tests.search import place as searching
from tests.serve import place
from tpr_jax.search.index import Index
from tpr_jax.search.problems import AskedError
from tpr_jax.serve import limits
from tpr_jax.serve.engine import Asked, Engine
from tpr_jax.serve.problems import Refused
from tpr_jax.serve.worker import Room, Worker


@pytest.fixture
def engine(folder):
  model = place.Model()
  found = Engine(Index(folder / "index", model))
  found.model = model
  yield found
  model.gate.set()
  found.close()


async def asking(engine, *queries):
  """Searches that have been queued: as many tasks."""
  tasks = [asyncio.create_task(engine.search(Asked(query=each))) for each in queries]
  await asyncio.sleep(0)  # each runs to where it waits
  return tasks


def outcomes(tasks):
  return asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_together_is_encoded_together(engine):
  async def act():
    engine.model.gate.clear()
    before = len(engine.model.texts)
    first = await asking(engine, "a green cap")
    await asyncio.to_thread(place.until, lambda: len(engine.model.texts) > before)
    others = await asking(engine, *(f"blue {i}" for i in range(5)))
    engine.model.gate.set()
    found = await outcomes(first + others)
    return found, engine.model.texts[before:]

  found, texts = asyncio.run(act())
  assert texts == [["a green cap"], [f"blue {i}" for i in range(5)]]
  best = [each.answer.hits[0].path for each in found]
  assert best[0] in ("cam1/001.png", "cam0/004.png")  # the green ones
  assert best[1:] == ["cam0/002.png"] * 5


def test_a_sentence_that_breaks_the_model_takes_no_other_along(engine):
  async def act():
    engine.model.gate.clear()
    tasks = await asking(engine, "red", "unheard", "blue")
    engine.model.gate.set()
    return await outcomes(tasks)

  red, broken, blue = asyncio.run(act())
  assert red.answer.hits[0].path == "cam0/000.png"
  assert blue.answer.hits[0].path == "cam0/002.png"
  assert isinstance(broken, ValueError)


def test_the_next_page_asks_nothing_of_the_model(engine):
  async def act():
    first = await engine.search(Asked(query="blue", top=2))
    before = len(engine.model.texts)
    second = await engine.search(Asked(query="blue", top=2, skip=2))
    assert len(engine.model.texts) == before
    with pytest.raises(Refused) as told:
      await engine.search(Asked(query="blue"), version=first.version + 1)
    assert told.value.status == 409
    return [hit.rank for hit in first.answer.hits + second.answer.hits]

  assert asyncio.run(act()) == [1, 2, 3, 4]


def test_too_many_that_wait_are_refused_and_who_left_is_not_worked_for():
  async def act():
    hold, done = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def work(jobs):
      done.extend(jobs)
      asyncio.run_coroutine_threadsafe(hold.wait(), loop).result()
      return [each * 2 for each in jobs]

    worker = Worker(work, batch=1, waiting=2)
    first = asyncio.create_task(worker(1))
    await asyncio.sleep(0)
    await asyncio.to_thread(place.until, lambda: done == [1])
    second, third = asyncio.create_task(worker(2)), asyncio.create_task(worker(3))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as told:
      await worker(4)
    assert told.value.status == 503 and told.value.headers["Retry-After"]
    second.cancel()
    await asyncio.sleep(0)
    hold.set()
    assert await asyncio.gather(first, third) == [2, 6]
    await asyncio.to_thread(worker.close)
    with pytest.raises(Refused):
      await worker(5)
    return done

  assert asyncio.run(act()) == [1, 3]


def test_a_room_is_left_by_who_stops_waiting():
  async def act():
    room = Room(1, 1)

    async def stay():
      async with room:
        await asyncio.Event().wait()

    inside, waiting = asyncio.create_task(stay()), asyncio.create_task(stay())
    await asyncio.sleep(0)
    with pytest.raises(Refused):
      await stay()
    for task in (waiting, inside):
      task.cancel()
    await outcomes([waiting, inside])
    async with room:
      return True

  assert asyncio.run(act())


def test_pictures_that_were_given_are_few_and_forgotten(folder, monkeypatch):
  monkeypatch.setattr(limits, "UPLOADS", 2)
  now = [0.0]
  engine = Engine(Index(folder / "index", place.Model()), clock=lambda: now[0])
  data = (folder / "images" / "cam0" / "002.png").read_bytes()

  async def act():
    return [(await engine.give(data))[0] for _ in range(3)]

  names = asyncio.run(act())
  np.testing.assert_allclose(np.linalg.norm(engine.given(names[2]).row), 1, atol=1e-6)
  with pytest.raises(Refused):
    engine.given(names[0])
  now[0] = limits.UPLOAD_SECONDS
  with pytest.raises(Refused):
    engine.given(names[2])
  engine.close()


def test_a_model_without_finite_rows(folder):
  engine = Engine(Index(folder / "index", place.Model(broken=True)))
  data = searching.write(folder / "asked.png").read_bytes()
  with pytest.raises(AskedError, match="not finite"):
    asyncio.run(engine.give(data))
  engine.close()
