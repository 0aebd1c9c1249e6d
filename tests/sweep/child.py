"""Stands for `python -m tpr_jax.main` in these tests: a run without training.

`python child.py BOOK ARGUMENTS`: BOOK is a JSON file, {"config": {run: plain
config}, "R1": {run: number}, "does": {run: what}}, a run being its folder's name. Every
start and signal is a line of the file "starts" beside the book.
"""

import json
import os
import pathlib
import signal
import sys
import time


def main(book, arguments):
  (folder,) = (
    pathlib.Path(a.partition("=")[2]) for a in arguments if a.startswith("--run=")
  )
  notes, name = json.loads(book.read_text()), folder.name
  does = notes["does"].get(name, "finish")

  def note(text):
    with (book.parent / "starts").open("a") as file:
      file.write(f"{text}\n")

  def count(text):
    return (book.parent / "starts").read_text().split("\n").count(text)

  waiting = does in ("wait", "wait for two signals")
  if waiting:
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, lambda signum, _: signals.append(signum))
  note(name)
  print(f"arguments: {' '.join(arguments)}", flush=True)
  (folder / "config.json").write_text(json.dumps(notes["config"][name]))
  if waiting:
    wanted = 2 if does == "wait for two signals" else 1
    heard = False  # noted, whenever the signals come
    while not heard or len(signals) < wanted:
      time.sleep(0.02)
      if signals and not heard:
        note(f"heard {name}")
        heard = True
    time.sleep(0.3)
    note(f"saved {name}")
    return 128 + signals[-1]
  if does == "meet":  # ends only beside another run
    started, deadline = notes["meet"], time.monotonic() + 20
    while not all(count(other) for other in started):
      if time.monotonic() > deadline:
        return 3
      time.sleep(0.02)
  if does == "fail":
    print("a line\nerror: no such picture", file=sys.stderr)
    return 7
  if does == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
  if does == "nothing":
    return 0
  scores = {"R1": notes["R1"][name], "mAP": 50.0}
  about = {
    "seconds": {"train": 75.0, "evaluate": 5.0},
    "versions": {"jax": notes.get("jax", {}).get(name, "1.0")},
    "devices": ["cpu:cpu"],
    "command": "python -m tpr_jax.main",
  }
  (folder / "run.json").write_text(json.dumps(about))
  found = {"evals": {"test": {"t2i": scores}, "test_coarse": {"t2i": scores}}}
  (folder / "results.json").write_text(json.dumps(found))
  return 9 if does == "fail late" else 0


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
