"""Train a model from a config: python tools/train.py configs/vit3d_cot_contrastive.py

The same as ``ctvlm train``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ctvlm import cli


def main() -> int:
    """Train; returns the exit code."""
    # custom_imports may name modules of projects/, which is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return cli.run_command("train", sys.argv[1:], "python tools/train.py")


if __name__ == "__main__":
    sys.exit(main())
