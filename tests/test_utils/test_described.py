"""Descriptions of transforms are equal in all processes and differ between different transforms."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from ctvlm.utils.described import described

SCRIPT = """
import json
from functools import partial
import numpy as np
from ctvlm.utils.described import described

class Shift:
    def __init__(self, by, function):
        self.by, self.function, self.itself = by, function, self
    def __call__(self, results):
        return results

def shifted(by):
    return lambda results: {**results, "by": by}

items = [Shift(np.arange(3), shifted(2)), Shift(1, None).__call__, partial(shifted, by=2), np.sum, object(), {3, 1}]
print(json.dumps(described(items)))
"""


def test_descriptions_are_equal_in_two_processes(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    other = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    runpy.run_path(str(script), run_name="__main__")
    here = capsys.readouterr().out
    assert here == other and "0x" not in here and len(json.loads(here)) == 6


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, results):
        return results


def shifted(by):
    return lambda results: {**results, "by": by}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Shift(1), Shift(2)),
        (Shift(np.zeros(3)), Shift(np.ones(3))),
        (shifted(1), shifted(2)),
        (lambda x: x + 1, lambda x: x - 1),
        (lambda x: x + 1, lambda x: x + 2),
        (partial(shifted, 1), partial(shifted, 2)),
        (Shift(1).__call__, Shift(2).__call__),
        (dict(type=Shift), dict(type=dict)),
    ],
)
def test_different_transforms_have_different_descriptions(one, other):
    assert described(one) == described(one) != described(other)
