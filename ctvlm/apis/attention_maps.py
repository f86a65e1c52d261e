"""Where a model looks in a CT: attention rollout, attention of texts, regions of patches."""

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
    """Maps on the patch grid; attention is in multiples of the mean over the patches that took part.

    Attributes:
        rollout: what the volume's embedding is fed by, followed through the encoder's layers back to the patches;
            None for an encoder without self-attention.
        texts: attention of each text over the patches.
        regions: id of the largest region in each patch, 0 where most of a patch lies in none (uint8).
    """

    features: VolumeFeatures
    rollout: CTVolume | None
    texts: list[CTVolume]
    regions: CTVolume


def attention_maps(extractor: FeatureExtractor, case: ReadCase, texts: Sequence[str]) -> AttentionMaps:
    """Maps of one case. Rollout after Abnar & Zuidema (2020), see AttentionRecorder."""
    model, inputs = extractor.model, extractor.inputs([case])
    attends = any(isinstance(layer, SelfAttention) for layer in model.backbone.modules())
    context = model.context(inputs)
    with torch.no_grad(), AttentionRecorder(model.backbone) if attends else nullcontext() as recorder:
        encoded = context.encoded
    features = extractor.features([case], context)[0]
    mean = 1 / int(features.patch_mask.sum())
    rollout = None
    if recorder is not None:
        # A plugin's pooling may not say what it weighs: then all patches alike.
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
