"""What launch/tpu.sh needs of gcloud, on this machine: two folders are the two hosts.

The folder FAKE_GCLOUD holds
  calls.txt     one line for each call: its words that are not flags, and the flags
  states        what `describe` answers, one word each time; the last one stays. No
                file: there is no such slice. `create` writes it from `provision`
  hosts/0, 1    the home folders of the hosts
  break         where it exists, the next `run` loses its connection after a second
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

FOLDER = pathlib.Path(os.environ["FAKE_GCLOUD"])
STATES, HOSTS = FOLDER / "states", (FOLDER / "hosts" / "0", FOLDER / "hosts" / "1")


def answer(states):
  """At once: other calls read the file meanwhile."""
  written = FOLDER / "states.writing"
  written.write_text("\n".join(states))
  written.replace(STATES)


def describe(_):
  if not STATES.exists():
    print("ERROR: (gcloud) NOT_FOUND: Resource was not found", file=sys.stderr)
    return 1
  first, *others = STATES.read_text().split()
  if others:
    answer(others)
  print(first)
  return 0


def create(_):
  if STATES.exists():
    print("ERROR: (gcloud) ALREADY_EXISTS", file=sys.stderr)
    return 1
  answer((FOLDER / "provision").read_text().split())
  for host in HOSTS:
    host.mkdir(parents=True)
  return 0


def delete(flags):
  if "--force" not in flags:
    print("ERROR: (gcloud) the slice has nodes", file=sys.stderr)
    return 1
  STATES.unlink()
  shutil.rmtree(FOLDER / "hosts")
  return 0


def active():
  return STATES.exists() and STATES.read_text().split()[0] == "ACTIVE"


def ssh(flags):
  (command,) = (flag[10:] for flag in flags if flag.startswith("--command="))
  if not active() or "--worker=all" not in flags:
    return 255
  there = [
    subprocess.Popen(
      ["bash", "-c", command],
      cwd=host,
      env={**os.environ, "HOME": str(host)},
      stdin=subprocess.DEVNULL,
    )
    for host in HOSTS
  ]
  if " run " in command and (FOLDER / "break").exists():
    (FOLDER / "break").unlink()
    time.sleep(1)
    for process in there:
      process.kill()
    return 255
  return next(filter(None, [process.wait() for process in there]), 0)


def scp(flags, source, target):
  assert target.endswith(":") and "--worker=all" in flags
  for host in HOSTS:
    shutil.copy(source, host)
  return 0


def main(words):
  names = [word for word in words if not word.startswith("--")]
  flags = [word for word in words if word.startswith("--")]
  assert names[:2] == ["compute", "tpus"], words
  assert "--zone=z" in flags, words
  with (FOLDER / "calls.txt").open("a") as calls:
    calls.write(" ".join(names[2:] + flags) + "\n")
  verbs = dict(describe=describe, create=create, delete=delete, ssh=ssh)
  if names[3] == "scp":
    return scp(flags, *names[4:])
  assert names[4:] == ["cfam"], names
  return verbs[names[3]](flags)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
