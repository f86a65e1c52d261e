"""From a preprocessed batch to the output of the vision encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ctvlm.models.layers.patch_embedding import as_grid, grid_of
from ctvlm.models.objectives.batch_context import host_volumes
from ctvlm.models.region_encoders.overlap import patch_overlap
from ctvlm.structures import Anatomy, EncoderOutput


def encode_volumes(
    backbone: Any,
    preprocessor: Any,
    inputs: dict[str, Any],
    anatomy: Anatomy | None,
    visible_BN: Tensor | None,
    training: bool,
) -> EncoderOutput:
    """Features of the volumes of a batch.

    What depends on values of the input (windows for other encoders than those that read HU, the selection of tokens) is
    done outside of the encoder, which can therefore be compiled as one graph.

    Args:
        inputs: as ``CoTContrastiveVLM.forward`` takes them.
        anatomy: overlap of the patches with the region map, if it is known already.
        visible_BN: the only patches that are encoded; the encoder must read HU. ``None``: those that it selects.
    """
    hu_B1DHW, spacing_B3 = inputs["volume"], inputs.get("spacing")
    grid = grid_of(as_grid(hu_B1DHW.shape[2:]), backbone.patch_size)
    if anatomy is None and inputs.get("region_map") is not None:
        anatomy = Anatomy(*patch_overlap(inputs["region_map"], grid, backbone.num_regions))
    region_map_BDHW, anatomy = preprocessor.encoder_regions(inputs, anatomy, training)
    if not getattr(backbone, "reads_hu", False):
        return backbone(preprocessor.window(hu_B1DHW), region_map_BDHW, spacing_B3, anatomy)
    if visible_BN is None:
        visible_BN = backbone.select_patches(host_volumes(inputs), grid, preprocessor.window)
    context = backbone.token_context(hu_B1DHW, spacing_B3, preprocessor.window, visible_BN)
    return backbone(hu_B1DHW, region_map_BDHW, spacing_B3, anatomy, preprocessor.window, context)
