"""The command line as several processes of one run, on this machine."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port() -> int:
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


class Several:
  """`count` processes of `python -m tpr_jax.main ARGUMENTS`, started at once.

  Args:
    folder: where they run, and where `out0.txt`, ... take what they say.
    devices: virtual CPU devices of each.
    timeout: seconds of silence after which one is taken for dead.
    module: another program, which takes the flags that say which process it is too.
  """

  def __init__(
    self,
    folder,
    *arguments,
    count=2,
    devices=2,
    timeout=10,
    module="tpr_jax.main",
  ):
    self.folder = pathlib.Path(folder)
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env["XLA_FLAGS"] = " ".join(
      [env.get("XLA_FLAGS", ""), flags]
    )  # the last one counts
    together = ()
    if count > 1:
      together = (
        f"--coordinator=localhost:{free_port()}",
        f"--processes={count}",
        f"--peer_timeout={timeout}",
      )
    self.processes = []
    for index in range(count):
      own = (f"--process={index}",) if count > 1 else ()
      with self.out(index).open("w") as out:
        self.processes.append(
          subprocess.Popen(
            [
              sys.executable,
              "-m",
              module,
              *map(str, arguments),
              *together,
              *own,
            ],
            cwd=self.folder,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
          )
        )

  def out(self, index: int = 0) -> pathlib.Path:
    return self.folder / f"out{index}.txt"

  def said(self, index: int = 0) -> str:
    return self.out(index).read_text(errors="replace")

  def wait(self, timeout: float = 300) -> list[int]:
    """Exit statuses; those still running after `timeout` seconds are killed."""
    try:
      return [process.wait(timeout) for process in self.processes]
    finally:
      for process in self.processes:
        process.kill()
