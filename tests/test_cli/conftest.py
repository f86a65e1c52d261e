from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from ctvlm.cli import main
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, write_nifti


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document of ``--json``, which must be the only output."""
        return json.loads(self.out)


@pytest.fixture
def ctvlm(monkeypatch, capsys, fresh_mmengine):
    """Runs ``ctvlm`` in this process and in the current folder: ``ctvlm("list", "configs")``."""

    def run(*arguments: object) -> Outcome:
        fresh_mmengine()
        monkeypatch.setattr(sys, "argv", ["ctvlm", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        code = main()
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def loaded_by(repo_root):
    """Runs ``ctvlm`` in a new process; returns its exit code, CPU seconds, imported packages and stderr."""
    script = (
        "import json, sys, time; start = time.process_time(); from ctvlm.cli import main; code = main();"
        "names = sorted({name.partition('.')[0] for name in sys.modules});"
        "print('\\n' + json.dumps([code, time.process_time() - start, names]))"
    )

    def run(*arguments: str) -> tuple[int, float, set[str], str]:
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=600, check=True)
        code, seconds, names = json.loads(done.stdout.splitlines()[-1])
        return code, seconds, set(names), done.stderr

    return run


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Folder with two phantoms, ``p0`` and ``p1``: ct.nii.gz, and the label map seg.nii.gz with the scheme's ids."""
    folder = tmp_path_factory.mktemp("phantoms")
    data = PhantomCT(num_cases=2, split="cli", shape=(20, 72, 72), num_workers=0, cache=False)
    for number in range(2):
        phantom = data.results(number)
        ct = CTVolume(phantom["volume"], phantom["affine"])
        write_nifti(ct, folder / f"p{number}" / "ct.nii.gz")
        write_nifti(ct.with_array(phantom["region_map"]), folder / f"p{number}" / "seg.nii.gz")
    return folder
