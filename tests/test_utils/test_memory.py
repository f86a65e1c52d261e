"""Freed memory stays in the process."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from ctvlm.utils import memory

ALLOCATE_TWICE = """
import resource
from ctvlm.utils import keep_freed_memory
kept = keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 * 2**20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del block
print(kept, *faults)
"""


def in_new_process(**environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", ALLOCATE_TWICE]
    return subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=600
    ).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_blocks_are_reused_without_new_pages():
    kept, first, *later = in_new_process()
    assert kept == "True"
    assert int(first) > 100
    assert all(int(faults) < int(first) / 10 for faults in later)


def test_malloc_variables_of_the_user_have_priority():
    assert in_new_process(MALLOC_ARENA_MAX="4")[0] == "False"


NAMES = {
    2: ("", "memory.max", "memory.current", "inactive_file", "max"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", str(2**63 - 4096)),
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("visible", [True, False])
def test_memory_is_limited_by_the_container(tmp_path, monkeypatch, version, visible):
    controller, limit, used, files, unlimited = NAMES[version]
    root = tmp_path / "sys"
    inner = root / controller / "jobs" / "one"
    inner.mkdir(parents=True)
    outer = inner.parent if visible else root / controller
    for folder, most, now in ((inner, unlimited, 7), (outer, "5000", 3000)):
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text(f"{now}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{files} 1000\nother_file 3\n")
    groups = tmp_path / "cgroup"
    groups.write_text(f"4:cpu,cpuacct:/other\n0:{controller}:/{'jobs/one' if visible else 'hidden'}\n")
    found = memory._control_groups(root, groups)
    assert min(found) == (5000, 2000)
    assert memory._control_groups(root, tmp_path / "missing") == []
    monkeypatch.setattr(memory, "_control_groups", lambda: found)
    assert memory.available_memory(torch.device("cpu")) == 3000 and memory.total_memory() == 5000
