"""A BatchContext around features that are already computed."""

from __future__ import annotations

from ctvlm.models.objectives import BatchContext, TextBank
from ctvlm.models.space import SharedSpace


def context(encoded, samples=(), volume=None, region_map=None, spacing=None) -> BatchContext:
    """Views of an EncoderOutput."""
    width, num_regions = encoded.tokens.shape[-1], encoded.patch_to_region.shape[-1] - 1
    inputs = dict(volume=volume, region_map=region_map, spacing=spacing)
    space, texts = SharedSpace(width, 4, 4), TextBank(samples, None)
    return BatchContext(inputs, samples, lambda *_: encoded, encoded.grid, num_regions, space, texts)
