"""What of the machine's memory is left, as the kernel's files tell it."""

import os
import platform

import pytest

from tpr_jax.data import ram

GIB = 2**30


def system(root, *, total=64, available=48, groups, files):
  """A folder with /proc and /sys as Linux has them; sizes in GiB, files by path."""
  files = files | {
    "proc/meminfo": f"MemTotal: {total * 2**20} kB\nMemFree: 5 kB\n"
    f"MemAvailable: {available * 2**20} kB\nHugePages_Total: 0\n",
    "proc/self/cgroup": groups,
  }
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return root


def test_without_a_limit_it_is_the_machines(tmp_path):
  files = {
    "sys/fs/cgroup/box/memory.max": "max\n",
    "sys/fs/cgroup/box/memory.current": f"{60 * GIB}\n",
  }
  root = system(tmp_path, groups="0::/box\n", files=files)
  assert ram.now(root) == (64 * GIB, 48 * GIB)


V1 = "sys/fs/cgroup/memory"
V2 = "sys/fs/cgroup"


@pytest.mark.parametrize("folder", ["box/inner", "box", "."])
def test_a_limit_of_any_group_above_counts(tmp_path, folder):
  files = {
    f"{V2}/{folder}/memory.max": f"{16 * GIB}\n",
    f"{V2}/{folder}/memory.current": f"{12 * GIB}\n",
    f"{V2}/{folder}/memory.stat": f"anon 1\ninactive_file {3 * GIB}\n",
  }
  root = system(tmp_path, groups="0::/box/inner\n", files=files)
  assert ram.now(root) == (16 * GIB, 7 * GIB)


def test_first_generation_groups(tmp_path):
  files = {
    f"{V1}/memory.limit_in_bytes": f"{8 * GIB}\n",
    f"{V1}/memory.usage_in_bytes": f"{9 * GIB}\n",
    f"{V1}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
  }
  groups = "9:name=systemd:/\n4:cpuset,memory:/a/b\n0::/\n"
  root = system(tmp_path, groups=groups, files=files)
  assert ram.now(root) == (8 * GIB, 0)


def test_elsewhere_nothing_is_known(tmp_path):
  assert ram.now(tmp_path) is None


@pytest.mark.skipif(platform.system() != "Linux", reason="needs Linux")
def test_this_machine():
  found = ram.now()
  pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  assert 0 < found.available <= found.total <= pages
