"""One config per block from the ``block`` of an encoder."""

from __future__ import annotations

from typing import Any

import torch


def block_configs(block: dict, depth: int) -> list[dict[str, Any]]:
    """The config of each block, ``overrides`` applied and ``drop_path`` set to the block's own rate.

    Args:
        block: options of all blocks. ``overrides`` lists ``dict(blocks=[...], **options)``; an option replaces the
            block's own as a whole. ``drop_path`` is the rate of the last block; an override sets its blocks' own rate.

    Raises:
        ValueError: an override without ``blocks``, or of a block that does not exist.
    """
    common = dict(block)
    overrides = common.pop("overrides", None) or []
    rates = torch.linspace(0, common.pop("drop_path", 0.0), depth, device="cpu").tolist()
    configs = [{**common, "drop_path": rate} for rate in rates]
    for override in overrides:
        options = dict(override)
        blocks = options.pop("blocks", [])
        if not blocks or any(not -depth <= i < depth for i in blocks):
            raise ValueError(
                f"block.overrides: found blocks = {list(blocks)}; expected indices from {-depth} to {depth - 1}"
            )
        for i in blocks:
            configs[i].update(options)
    return configs
