"""launch/tpu.sh: whole flows, from nothing to the end of the program."""

from tests.launch.cloud import BEGIN, RUN


def test_a_run_from_nothing_to_its_end(tpu):
  status, out, _ = tpu("watch", *RUN, f"--run={tpu.run}")
  assert status == 0
  assert tpu.calls() == BEGIN
  assert out.index("WAITING_FOR_RESOURCES") < out.index("PROVISIONING")
  assert "host 0: finished at 30" in out and "host 1: finished at 30" in out
  assert "Finished" in out and "delete" in out
  for host in (0, 1):
    words = ["--distributed", *RUN, f"--run={tpu.run}"]
    assert tpu.starts(host) == [f"{words} from 0 on tpu,cpu"]
  assert tpu("delete")[0] == 0
  assert tpu.calls() == [*BEGIN, "delete"]


def test_after_a_preemption_it_asks_again_and_continues(tpu):
  watching = tpu.start("watch", *RUN, f"--run={tpu.run}", SPOT="1")
  tpu.until(lambda: min(tpu.step(0), tpu.step(1)) >= 5)
  (tpu.cloud / "states").write_text("SUSPENDING SUSPENDING SUSPENDED")
  tpu.kill_hosts()
  out, err = watching.communicate(timeout=40)
  assert watching.returncode == 0, err
  begin = ["create --spot", *BEGIN[1:]]
  assert tpu.calls() == [*begin, "delete", *begin]
  first, second = tpu.starts(0)
  assert " from 0 on " in first and " from 0 on " not in second
  assert tpu.step(0) == tpu.step(1) == 30
  assert "taken away" in out


def test_a_slice_that_goes_while_the_connection_hangs(tpu):
  watching = tpu.start("watch", *RUN, "--steps=100000", f"--run={tpu.run}")
  tpu.until(lambda: min(tpu.step(0), tpu.step(1)) >= 5)
  (tpu.cloud / "states").write_text("SUSPENDED")  # and nothing ends the connection
  tpu.until(lambda: "delete" in tpu.calls())
  watching.terminate()
  watching.communicate(timeout=20)


def test_a_broken_connection_is_taken_up_again(tpu):
  (tpu.cloud / "break").touch()
  status, out, err = tpu("watch", *RUN, "--steps=120", f"--run={tpu.run}")
  assert status == 0, err
  asked = ["ssh finished", "ssh ended", "ssh idle", "ssh run"]
  assert tpu.calls() == [*BEGIN, *asked]
  assert len(tpu.starts(0)) == len(tpu.starts(1)) == 1
  assert "still running" in out and "finished at 120" in out


def test_the_end_is_learned_though_the_connection_is_gone(tpu):
  (tpu.cloud / "break").touch()
  status, out, err = tpu("watch", *RUN, "--steps=3", f"--run={tpu.run}")
  assert status == 0 and "Finished" in out, err
  assert tpu.calls() == [*BEGIN, "ssh finished"]
  assert len(tpu.starts(0)) == 1
