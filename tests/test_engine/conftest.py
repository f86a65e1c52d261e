from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

TOY_CONFIG = Path(__file__).parent / "toy_config.py"


@pytest.fixture
def toy_config(tmp_path, fresh_mmengine):
    """Makes the toy config with a work folder in tmp_path and dotted overrides."""

    def make(folder: str = "run", **overrides) -> Config:
        fresh_mmengine()
        cfg = Config.fromfile(str(TOY_CONFIG))
        cfg.work_dir = str(tmp_path / folder)
        cfg.merge_from_dict({key.replace("__", "."): value for key, value in overrides.items()})
        return cfg

    return make
