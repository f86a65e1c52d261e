"""What a model can be used for, according to its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctvlm.engine.checkpoint.upgrade import upgrade_model_config

# Task to its description in model cards and lists.
TASKS = {
    "features": "features of volumes, regions and patches",
    "zero-shot": "zero-shot scores of texts, and retrieval",
    "step-attention": "attention of reasoning steps",
    "regions": "regions of CTs without masks",
    "classification": "probabilities of the findings it was trained on",
    "reasoning": "generated reasoning steps and impression",
}
_REGION_ENCODERS = {"LearnedRegionEncoder"}
_HEADS = {
    "PointSegmentationHead": "regions",
    "VoxelSegmentationHead": "regions",
    "SegmentationHead": "regions",
    "RegionLogitsHead": "regions",
    "ClassificationHead": "classification",
    "CoTGenerationHead": "reasoning",
    "PrefixGenerationHead": "reasoning",
}


def model_tasks(config: Mapping[str, Any]) -> list[str]:
    """Keys of ``TASKS`` that the model of a config was trained for, in their order."""
    model = upgrade_model_config(config.get("model") or {})
    objectives = {name: value for name, value in (model.get("objectives") or {}).items() if value}
    trained = {name for name, value in (model.get("losses") or {}).items() if value}
    trained |= {name for name, value in objectives.items() if value.get("loss")}
    found = {"features"} | {_HEADS.get(_kind(value.get("head")), "features") for value in objectives.values()}
    if "volume" in trained:
        found.add("zero-shot")
    if "step" in trained or "focus" in trained:
        found.add("step-attention")
    if _kind((model.get("backbone") or {}).get("region_encoder")) in _REGION_ENCODERS:
        found.add("regions")
    return [task for task in TASKS if task in found]


def _kind(config: Any) -> str:
    return str((config or {}).get("type", "")).rpartition(".")[2]
