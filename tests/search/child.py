"""An indexer that kills itself at a moment: python -m tests.search.child FOLDER INDEX S

S seconds after it has begun to read pictures, as SIGKILL does it.
"""

import os
import pathlib
import signal
import sys
import threading
import time

from tests.search import place
from tpr_jax.search import indexing, reading


class Slow(place.Encoder):
  def encode_images(self, prepared):
    time.sleep(0.02)
    return super().encode_images(prepared)


class Model(place.Model):
  def load(self):
    return Slow(self)


def main(images, index, seconds):
  indexing.BATCH, indexing.COMMIT = 3, 5
  begin = reading.outcomes

  def outcomes(*given):
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(float(seconds), kill).start()
    return begin(*given)

  indexing.reading.outcomes = outcomes
  place.index(pathlib.Path(images), pathlib.Path(index), Model())
  os._exit(0)  # done before its time


if __name__ == "__main__":
  main(*sys.argv[1:])
