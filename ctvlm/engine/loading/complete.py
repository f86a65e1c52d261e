"""Check that an evaluation reads all cases."""

from __future__ import annotations

from mmengine.runner import BaseLoop

from ctvlm.engine.cli.config_error import ConfigError
from ctvlm.utils.bad_cases import skipping


def complete(loop: BaseLoop, key: str) -> BaseLoop:
    """The loop.

    Raises:
        ConfigError: its data set replaces cases that cannot be read. ``key`` is that of its data loader in the config.
    """
    if skipping(loop.dataloader.dataset):
        raise ConfigError(
            f"{key}.dataset.bad_cases: found 'skip'; expected 'raise', because an evaluation reads all cases. Remove "
            "cases that cannot be read from the manifest"
        )
    return loop
