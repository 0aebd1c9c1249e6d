"""A small parent for one of several processes: says what the JAX runtime cannot.

When a process of a run dies, JAX stops the others from C++, in the middle of whatever
they do, with a stack trace. Their parents tell people what happened and what to do.
"""

import contextlib
import ctypes
import os
import signal
import sys

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

LOST = (
  "another process of this run is gone or silent, so this one cannot go on; the output"
  " of that one says why. Start all of them again with the same command: it continues"
  " from the newest checkpoint"
)


def watch() -> None:
  """Forks: returns in the child, which does the work; the parent ends with its status.

  Call before threads start and before JAX is imported. Signals to the parent go to the
  child, once; a parent that is killed takes its child along (on Linux).
  """
  parent = os.getpid()
  # A signal that comes before the parent is ready for it waits.
  signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
  child = os.fork()
  if not child:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which hands it on
    if sys.platform == "linux":
      ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
      if os.getppid() != parent:  # it died before that
        os._exit(128 + signal.SIGKILL)
    return

  def hand_on(signum, _frame):
    with contextlib.suppress(ProcessLookupError):
      os.kill(child, signum)

  for number in _FORWARDED:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, hand_on)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
  _, status = os.waitpid(child, 0)
  code = os.waitstatus_to_exitcode(status)
  if code == -signal.SIGABRT:
    print(f"error: {LOST}", file=sys.stderr, flush=True)
  os._exit(code if code >= 0 else 128 - code)
