"""Attention maps of a CT: attention rollout, attention of texts, and regions of patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.feature_extractor import FeatureExtractor, VolumeFeatures
from ctvlm.models.attention import SelfAttention
from ctvlm.models.attention.rollout import AttentionRecorder
from ctvlm.models.necks import VolumePooling
from ctvlm.volume import CTVolume


@dataclass(frozen=True)
class AttentionMaps:
    """Maps on the patch grid. Attention is relative to its mean over the patches that the encoder has not dropped.

    Attributes:
        rollout: contribution of each patch to the volume embedding (attention rollout); None for an encoder without
            self-attention.
        texts: attention of each text over the patches.
        regions: id of the largest region in each patch (uint8); 0 if at least half of the patch is background.
    """

    features: VolumeFeatures
    rollout: CTVolume | None
    texts: list[CTVolume]
    regions: CTVolume


def attention_maps(extractor: FeatureExtractor, case: ReadCase, texts: Sequence[str]) -> AttentionMaps:
    """Compute the maps of one case. Rollout follows Abnar & Zuidema (2020), see AttentionRecorder."""
    model, inputs = extractor.model, extractor.inputs([case])
    has_attention = any(isinstance(layer, SelfAttention) for layer in model.backbone.modules())
    context = model.context(inputs)
    with torch.no_grad(), AttentionRecorder(model.backbone) if has_attention else nullcontext() as recorder:
        encoded = context.encoded
    features = extractor.features([case], context)[0]
    mean = 1 / int(features.patch_mask.sum())
    rollout = None
    if recorder is not None:
        # The pooling of a plugin may have no patch_shares; then all patches have equal weight.
        pooling = model.space.volume_pooling
        if not hasattr(pooling, "patch_shares"):
            pooling = VolumePooling()
        with torch.no_grad():
            readout_BN = pooling.patch_shares(encoded)
        rollout = features.on_grid(recorder.rollout(readout_BN)[0].float().cpu() / mean)
    attention_UN: Iterable[Tensor] = extractor.similarity(features, texts).attention if texts else []
    shares_NR1 = features.patch_to_region
    largest_N = torch.where(shares_NR1[:, 0] < 0.5, shares_NR1[:, 1:].argmax(dim=1) + 1, 0)
    return AttentionMaps(
        features,
        rollout,
        [features.on_grid(attention_N / mean) for attention_N in attention_UN],
        features.on_grid(largest_N.to(torch.uint8)),
    )
