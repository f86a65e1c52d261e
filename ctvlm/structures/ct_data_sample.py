"""Annotations and predictions of one case."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.structures import BaseDataElement

# Stages of a chain of thought (CORTEX): what is seen, what follows from it, and the answer to the question.
STAGES = ("observation", "reason", "answer")


@dataclass(frozen=True)
class CoTStep:
    """One reasoning step of a report.

    Attributes:
        text: the step's text.
        regions: ids in the RegionScheme (1..R) of the regions that the step mentions.
        entities: findings that the step names.
        lesion: id of the step's lesion mask; ``None`` without a mask.
        normal: True if the step only states that its regions are normal. Such steps are equivalent, so that a
            contrastive loss does not use them as negatives of each other.
        question: the question that the step answers, for data sets with questions.
        stage: one of STAGES, for data sets with stages.

    Raises:
        ValueError: the stage is unknown.
    """

    text: str
    regions: tuple[int, ...] = ()
    entities: tuple[str, ...] = ()
    lesion: int | None = None
    normal: bool = False
    question: str = ""
    stage: str = ""

    def __post_init__(self) -> None:
        if self.stage and self.stage not in STAGES:
            raise ValueError(f"found a step of stage {self.stage!r}; expected one of {', '.join(STAGES)}, or none")


class CTDataSample(BaseDataElement):
    """Annotations and predictions of one case.

    Meta information: ``case_id``, ``patient_id``, ``spacing`` (mm, z y x), ``volume_shape`` (D, H, W), ``scheme``
    (name of the RegionScheme), ``region_names`` (of ids 1..R), ``affine`` (4x4, voxel x y z to RAS+ mm),
    ``region_kept`` (region id to the share of the region that remains in the volume after crops and shifts; a missing
    region is complete), ``sets`` (names of the evaluation sets that contain the case), ``evaluation_set`` (the selected
    one, or None), ``labels_source`` (origin of the labels, or None).

    Annotations: ``impression`` and ``findings`` (str), ``steps`` (list of CoTStep), ``labels`` (name to 1, 0 or None),
    ``lesion_map`` (uint8 tensor (D, H, W), optional).

    Predictions have the prefix ``pred_`` and are CPU tensors.
    """
