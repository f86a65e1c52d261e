"""Keys of data samples that metrics read."""

from __future__ import annotations

from collections.abc import Iterable


def needed_keys(metrics: Iterable[object]) -> frozenset[str] | None:
    """Union of the ``needs`` of metrics; None (all keys) if a metric does not declare ``needs``."""
    keys: set[str] = set()
    for metric in metrics:
        needs = getattr(metric, "needs", None)
        if needs is None:
            return None
        keys.update(needs)
    return frozenset(keys)
