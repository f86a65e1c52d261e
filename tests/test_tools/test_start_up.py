"""The command line of each tool answers before torch and other large packages are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = sorted(path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob("*.py"))
HEAVY = ("torch", "mmengine", "transformers", "nibabel", "numpy", "matplotlib")
# Prints what a script has imported when it exits.
RUN = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sorted(set(sys.modules) & set(%r.split()))))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN % " ".join(HEAVY), str(TOOLS / script), *arguments]
    return subprocess.run(command, cwd=TOOLS.parent, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_usage_errors_import_no_large_package(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert done.stdout.splitlines()[-1] == "imported:"
    done = run(script, "--no-such-option")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == ["imported:"]


@pytest.mark.parametrize(
    "modules,excluded",
    [
        ("ctvlm", "torch mmengine numpy typer lazy_loader"),
        # Imported by each process that draws phantoms.
        ("ctvlm.phantom.packed", "torch mmengine scipy matplotlib"),
        # Of what every run imports. The packages are imported when they are used.
        (
            "ctvlm.engine.runner ctvlm.engine.hooks ctvlm.models ctvlm.datasets ctvlm.phantom.phantom_ct "
            "ctvlm.evaluation",
            "transformers timm peft torchvision scipy.stats scipy.optimize sklearn matplotlib wandb torch._dynamo",
        ),
    ],
)
def test_imports_exclude_packages_that_take_long(modules, excluded):
    imports = "".join(f"import {module}\n" for module in modules.split())
    assert python(f"{imports}import sys\nprint(*sorted(set({excluded.split()}) & set(sys.modules)))") == ""


@pytest.mark.parametrize("first", ["", "import transformers"])
def test_adafactor_is_that_of_transformers(first):
    """It is imported when it is built; ``transformers`` itself is unchanged."""
    code = f"""
{first}
import ctvlm, sys, torch, mmengine.optim
print("transformers" in sys.modules)
from ctvlm.registry import OPTIMIZERS
options = dict(params=[torch.nn.Parameter(torch.ones(2))], lr=0.25, relative_step=False)
built = [OPTIMIZERS.build(dict(type=name, **options)) for name in ("Adafactor", "mmengine.Adafactor")]
from transformers import Adafactor
print({{type(optimizer) for optimizer in built}} == {{Adafactor}}, built[0].defaults["lr"])
"""
    lines = python(code).splitlines()
    assert [lines[0], lines[-1]] == [str(bool(first)), "True 0.25"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=TOOLS.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
