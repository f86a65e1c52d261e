"""Options and fixtures of all tests."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]

# Small tensors gain nothing from threads, and test workers would compete for the cores. Set before torch starts its
# thread pool; subprocesses of tests inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Read by huggingface_hub on import: tests do not use the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    with suppress(ValueError):  # projects/conftest.py has added it
        parser.addoption("--runslow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_modifyitems(config, items):
    """Skip slow tests unless --runslow is given or the -m expression contains ``slow``."""
    if config.getoption("--runslow") or "slow" in (config.getoption("-m") or ""):
        return
    skip = pytest.mark.skip(reason="slow: run with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def signals_not_ignored():
    """A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real CTs, masks and reports: CTVLM_SHARED, or ../shared/data of the checkout."""
    folder = Path(os.environ.get("CTVLM_SHARED", REPO_ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture
def fresh_mmengine():
    """Clear mmengine's named singletons, so that none of an earlier test is the current one."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    from ctvlm.engine import CTVisualizer

    def forget():
        for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, CTVisualizer):
            manager._instance_dict.clear()

    forget()
    yield forget
    forget()


@pytest.fixture(scope="session")
def released_model(tmp_path_factory) -> Path:
    """Folder of a small released model with random weights: regions without masks, texts, and generated steps."""
    from tests.released import write_small_model

    return write_small_model(tmp_path_factory.mktemp("released") / "small")
