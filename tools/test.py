"""Test a checkpoint. The same as ``ctvlm test``.

python tools/test.py configs/vit3d_cot_contrastive.py work_dirs/.../epoch_8.pth
python tools/test.py configs/evaluation/phantom_full.py work_dirs/.../epoch_8.pth --bootstrap 1000 --out predictions.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

from ctvlm import cli


def main() -> int:
    """Test; returns the exit code."""
    # custom_imports may name modules of projects/, which is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return cli.run_command("test", sys.argv[1:], "python tools/test.py")


if __name__ == "__main__":
    sys.exit(main())
