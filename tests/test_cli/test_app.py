"""The entry point: start-up, usage errors, and options with several values."""

from __future__ import annotations

import pytest

from ctvlm.cli.app import COMMANDS
from ctvlm.cli.arguments import with_values
from ctvlm.version import __version__

HEAVY = {"torch", "mmengine", "transformers", "nibabel", "SimpleITK", "numpy", "scipy", "matplotlib"}
NAMES = [name for commands in COMMANDS.values() for name in commands]


def test_help_lists_every_command(ctvlm):
    for arguments in (["--help"], ["-h"], []):
        outcome = ctvlm(*arguments)
        assert outcome.code == 0
        assert not [name for name in NAMES if name not in outcome.out]


def test_version(ctvlm):
    assert ctvlm("--version").out.strip() == __version__


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in NAMES)], ids=" ".join)
def test_help_imports_nothing_heavy(loaded_by, arguments):
    code, seconds, packages, _ = loaded_by(*arguments)
    assert code == 0
    assert not HEAVY & packages
    assert seconds < 2  # 0.2 on an idle machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tarin"], "tarin"),
        (["train"], "CONFIG"),
        (["train", "x", "--launcher", "ssh"], "ssh"),
        (["test"], "CONFIG"),
        (["verify", "x", "--rows", "many"], "--rows"),
        (["list", "colours"], "colours"),
    ],
)
def test_usage_errors_are_one_message_at_once(loaded_by, arguments, message):
    code, _, packages, err = loaded_by(*arguments)
    assert code == 2
    assert not HEAVY & packages
    first, second = err.splitlines()
    assert first.startswith("error: ") and message in first
    assert "--help" in second


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("c --cfg-options a=1 b=[2,3] --amp", "c --cfg-options=a=1 --cfg-options=b=[2,3] --amp"),
        ("c --cfg-options a=1 --cfg-options b=2", "c --cfg-options=a=1 --cfg-options=b=2"),
        ("c --cfg-options=a=1", "c --cfg-options=a=1"),
        ("c --resume", "c --resume=auto"),
        ("c --resume --amp", "c --resume=auto --amp"),
        ("c --resume epoch_3.pth --amp", "c --resume=epoch_3.pth --amp"),
    ],
)
def test_options_with_values(given, expected):
    assert with_values(given.split()) == expected.split()
