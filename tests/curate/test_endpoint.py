"""An endpoint that misbehaves in every way, and what is made of it."""

import email.utils
import random
import threading
import time

import pytest

from tests.curate import fake
from tpr_jax.curate import pace
from tpr_jax.curate.endpoint import Endpoint
from tpr_jax.curate.problems import CurateError, NoAnswer, Stopped

NEVER = threading.Event()


def ask(server, clock=None, say=lambda text: None, environ=None, **changes):
  made = Endpoint(
    fake.rewriter(server.url, **changes),
    clock=clock or fake.Clock(),
    dice=random.Random(0),
    say=say,
    environ=environ or {},
  )
  return made.answer([fake.request(**changes)], NEVER)[0]


def test_what_is_sent_and_what_comes_back():
  environ = {"MY_KEY": "secret-1"}
  with fake.Server(fake.said("Told anew.", model="tiny-2")) as server:
    answer = ask(server, environ=environ, api_key_env="MY_KEY", seed=7)
  assert (answer.text, answer.finish, answer.model) == ("Told anew.", "stop", "tiny-2")
  assert answer.attempts == 1
  (payload,), (headers,) = server.payloads, server.headers
  assert server.paths == ["/v1/chat/completions"]
  assert headers["Authorization"] == "Bearer secret-1"
  assert payload == dict(
    model="tiny",
    messages=[{"role": "user", "content": "A man in a red coat."}],
    stream=False,
    max_tokens=400,
    temperature=0.7,
    seed=fake.request(seed=7, api_key_env="MY_KEY").seed,
  )  # top_p is negative: the server's own


def test_every_question_has_a_seed_of_its_own():
  one, other = fake.request("A man."), fake.request("A woman.")
  assert one.seed == fake.request("A man.").seed != other.seed
  assert one.seed != fake.request("A man.", seed=1).seed
  assert 0 <= one.seed < 2**31


def test_extra_fields_replace_and_take_out():
  extra = '{"max_tokens": null, "max_completion_tokens": 9, "reasoning": "off"}'
  with fake.Server() as server:
    ask(server, extra=extra, temperature=-1.0, seed=-1)
  del server.payloads[0]["messages"]
  assert server.payloads[0] == dict(
    model="tiny", stream=False, max_completion_tokens=9, reasoning="off"
  )


@pytest.mark.parametrize(
  "content",
  [
    [{"type": "text", "text": "Told "}, {"type": "text", "text": "anew."}],
    "Told anew.",
  ],
)
def test_content_in_parts_is_joined(content):
  with fake.Server(fake.said(content)) as server:
    assert ask(server).text == "Told anew."


def test_a_refusal_field_is_the_answer():
  body = fake.said(None)
  body["choices"][0]["message"]["refusal"] = "I cannot."
  with fake.Server(body) as server:
    answer = ask(server)
  assert (answer.text, answer.finish) == ("I cannot.", "refusal")


def test_an_empty_answer_is_an_answer():
  with fake.Server(fake.said(None)) as server:
    assert ask(server).text == ""


# ---- what may pass


@pytest.mark.parametrize(
  "bad",
  [
    fake.error(500),
    fake.error(503),
    fake.error(529),
    fake.error(408),
    (200, b"{half", {}),
    (200, {"no": "choices"}, {}),
    (200, {"choices": []}, {}),
    (200, fake.said(7), {}),
    (200, [1], {}),
    b"no HTTP at all\r\n\r\n",
    b"",
    b"HTTP/1.0 200 OK\r\nContent-Length: 900\r\n\r\n{",
  ],
)
def test_twice_wrong_then_right(bad):
  clock, heard = fake.Clock(), []
  with fake.Server(bad, bad, fake.said("Told anew.")) as server:
    answer = ask(server, clock, heard.append)
  assert (answer.text, answer.attempts) == ("Told anew.", 3)
  assert len(heard) == 2 and all("trying again in" in text for text in heard)
  first, second = clock.slept
  assert 0.5 <= first <= 1.0 and 1.0 <= second <= 2.0


def test_waits_double_and_are_jittered():
  clocks = [fake.Clock(), fake.Clock()]
  for seed, clock in enumerate(clocks):
    with fake.Server(*[fake.error(500)] * 9) as server:
      made = Endpoint(
        fake.rewriter(server.url, max_retries=8),
        clock=clock,
        dice=random.Random(seed),
      )
      with pytest.raises(NoAnswer, match=r"answered 500: busy \(9 tries\)"):
        made.answer([fake.request()], NEVER)
  for clock in clocks:
    assert len(clock.slept) == 8
    for n, slept in enumerate(clock.slept):
      assert min(2**n, 60) / 2 <= slept <= min(2**n, 60)
  assert clocks[0].slept != clocks[1].slept


def test_retry_after_in_seconds_holds_everybody():
  clock = fake.Clock()
  with fake.Server(fake.error(429, Retry_After="17")) as server:
    made = Endpoint(fake.rewriter(server.url), clock=clock)
    made.answer([fake.request()], NEVER)
    assert sum(clock.slept) == pytest.approx(17)
    made._pace.hold(5)
    made.answer([fake.request()], NEVER)
  assert sum(clock.slept) == pytest.approx(22)


def test_retry_after_as_a_date():
  clock, at = fake.Clock(), email.utils.formatdate(time.time() + 40, usegmt=True)
  with fake.Server(fake.error(503, Retry_After=at)) as server:
    ask(server, clock)
  assert 30 < sum(clock.slept) < 41


def test_a_retry_after_that_says_nothing_is_left_aside():
  clock = fake.Clock()
  with fake.Server(fake.error(503, Retry_After="soon")) as server:
    ask(server, clock)
  assert 0.5 <= sum(clock.slept) <= 1.0


def test_a_wait_of_hours_is_not_waited_for():
  with (
    fake.Server(fake.error(429, Retry_After="7200")) as server,
    pytest.raises(NoAnswer, match="come back in 7,200 s") as caught,
  ):
    ask(server)
  assert caught.value.hopeless


@pytest.mark.parametrize("bad", fake.MISBEHAVIOURS, ids=lambda bad: bad.__name__)
def test_no_server_can_hold_a_request(bad):
  began = time.monotonic()
  with (
    fake.Server(bad, bad) as server,
    pytest.raises(NoAnswer, match=r"within 0\.5 s"),
  ):
    ask(server, timeout=0.5, max_retries=1)
  assert time.monotonic() - began < 12
  assert len(server.payloads) == 2


def test_a_slow_answer_in_time_is_taken():
  with fake.Server(delay=0.3) as server:
    assert ask(server).seconds >= 0
  assert len(server.payloads) == 1


def test_nobody_listens():
  with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:9: ConnectionRefused") as caught:
    Endpoint(fake.rewriter(), clock=fake.Clock()).answer([fake.request()], NEVER)
  assert caught.value.hopeless and "4 tries" in str(caught.value)


def test_silence_after_an_answer_is_no_reason_to_end_everything():
  with fake.Server(fake.said("Told."), *[fake.error(500)] * 4) as server:
    made = Endpoint(fake.rewriter(server.url), clock=fake.Clock())
    made.answer([fake.request()], NEVER)
    with pytest.raises(NoAnswer) as caught:
      made.answer([fake.request()], NEVER)
  assert not caught.value.hopeless


# ---- what cannot pass


@pytest.mark.parametrize(
  ("status", "hopeless", "hint"),
  [
    (400, False, ""),
    (401, True, "api_key_env"),
    (403, True, "may not use"),
    (404, True, "ends in /v1"),
    (422, False, ""),
    (451, True, ""),
  ],
)
def test_other_errors_are_explained_and_not_repeated(status, hopeless, hint):
  with (
    fake.Server(fake.error(status, "the server's own words")) as server,
    pytest.raises(NoAnswer, match=f"{status}: the server's own words") as caught,
  ):
    ask(server)
  assert hint in str(caught.value) and caught.value.hopeless == hopeless
  assert len(server.payloads) == 1


def test_a_spent_account_is_not_waited_for():
  with (
    fake.Server(fake.error(429, "pay first", "insufficient_quota")) as server,
    pytest.raises(NoAnswer, match="pay first") as caught,
  ):
    ask(server)
  assert caught.value.hopeless and len(server.payloads) == 1


def test_redirections_are_not_followed():
  other = "http://elsewhere.example/v1"
  with (
    fake.Server((307, b"", {"Location": other})) as server,
    pytest.raises(NoAnswer, match="points to http://elsewhere"),
  ):
    ask(server, environ={"K": "secret-1"}, api_key_env="K")
  assert len(server.payloads) == 1


def test_the_key_is_in_no_message():
  with (
    fake.Server(fake.error(401, "wrong key secret-1")) as server,
    pytest.raises(NoAnswer) as caught,
  ):
    ask(server, environ={"K": "secret-1"}, api_key_env="K")
  assert "secret-1" not in str(caught.value) and "***" in str(caught.value)


def test_a_key_that_is_not_set_is_named():
  with pytest.raises(
    CurateError, match=r"names the variable MY_KEY, which\s+is not set"
  ):
    Endpoint(fake.rewriter(api_key_env="MY_KEY"), environ={})


def test_a_key_over_plain_http_is_told():
  heard = []
  url = "http://192.0.2.7:8000/v1"
  settings = fake.rewriter(url, api_key_env="K")
  Endpoint(settings, environ={"K": "s"}, say=heard.append)
  Endpoint(fake.rewriter(api_key_env="K"), environ={"K": "s"}, say=heard.append)
  assert len(heard) == 1 and "192.0.2.7:8000" in heard[0]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://", ""])
def test_no_address(url):
  with pytest.raises(CurateError, match="expected an address such as"):
    Endpoint(fake.rewriter(url))


@pytest.mark.parametrize("end", ["", "/", "/chat/completions"])
def test_addresses_may_end_in_several_ways(end):
  with fake.Server() as server:
    made = Endpoint(fake.rewriter(server.url + end))
    made.answer([fake.request()], NEVER)
  assert server.paths == ["/v1/chat/completions"]


def test_a_proxy_is_asked_for_addresses_elsewhere(monkeypatch):
  with fake.Server() as server:
    place = server.url.removeprefix("http://").removesuffix("/v1")
    monkeypatch.setenv("http_proxy", f"http://user:pass@{place}")
    made = Endpoint(fake.rewriter("http://models.example/v1"))
    made.answer([fake.request()], NEVER)
  assert server.paths == ["http://models.example/v1/chat/completions"]
  assert server.headers[0]["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"


# ---- the pace


def test_requests_per_minute_are_kept_by_many_threads():
  clock = fake.Clock()
  limit, starts, lock = pace.Pace(30, clock), [], threading.Lock()

  def work():
    for _ in range(5):
      limit.wait(NEVER)
      with lock:
        starts.append(clock.now())

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(starts) == 20 and clock.now() >= 19 * 2.0


def test_the_pace_of_one_thread_is_exact():
  clock = fake.Clock()
  limit, starts = pace.Pace(120, clock), []
  for _ in range(4):
    limit.wait(NEVER)
    starts.append(clock.now())
  assert starts == [0.0, 0.5, 1.0, 1.5]
  limit.hold(10)
  limit.wait(NEVER)
  assert clock.now() == 11.5


def test_tries_count_for_the_pace():
  clock = fake.Clock()
  with fake.Server(fake.error(500), fake.error(500)) as server:
    ask(server, clock, requests_per_minute=2.0)
  assert clock.now() == pytest.approx(60)


def test_a_stop_ends_a_wait_at_once():
  stop = threading.Event()
  threading.Timer(0.1, stop.set).start()
  began = time.monotonic()
  with pytest.raises(Stopped):
    pace.Clock().sleep(60, stop)
  assert time.monotonic() - began < 20
