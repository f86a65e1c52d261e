"""Freed memory stays in the process."""

import os
import platform
import subprocess
import sys

import pytest

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
        command, env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_blocks_are_reused_without_new_pages():
    kept, first, *later = in_new_process()
    assert kept == "True"
    assert int(first) > 100
    assert all(int(faults) < int(first) / 10 for faults in later)


def test_malloc_variables_of_the_user_have_priority():
    assert in_new_process(MALLOC_ARENA_MAX="4")[0] == "False"
