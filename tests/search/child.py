"""An indexer that kills itself: python -m tests.search.child FOLDER INDEX S [--detect]

S seconds of its own work (processor time) after it has begun to read pictures, as
SIGKILL does it. By the clock, a busy machine would never let it begin.
"""

import os
import pathlib
import signal
import sys
import threading
import time

from tests.search import figures, place
from tpr_jax.search import indexing, reading


def kill_after(seconds):
  began = time.process_time()
  while time.process_time() - began < seconds:
    time.sleep(0.002)
  os.kill(os.getpid(), signal.SIGKILL)


def main(images, index, seconds, *detect):
  indexing.BATCH, indexing.COMMIT = 3, 5
  begin = reading.outcomes

  def outcomes(*given):
    threading.Thread(target=kill_after, args=(float(seconds),), daemon=True).start()
    return begin(*given)

  reading.outcomes = outcomes
  detector = figures.Figures() if detect else None
  place.index(pathlib.Path(images), pathlib.Path(index), detector=detector)
  os._exit(0)  # done before its time


if __name__ == "__main__":
  main(*sys.argv[1:])
