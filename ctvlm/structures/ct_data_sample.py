"""What is known about one case besides its voxels."""

from __future__ import annotations

from dataclasses import dataclass

from mmengine.structures import BaseDataElement


@dataclass(frozen=True)
class CoTStep:
    """One reasoning step of a report.

    ``regions`` are ids of the RegionScheme (1..R) that the step mentions, ``entities`` the findings it
    names, ``lesion`` the id of the lesion mask that shows it (``None``: no mask). ``normal`` marks a step that says
    nothing but that its regions are normal: such steps mean the same in other words, and do not repel one another.
    ``question`` is what the step answers, where a data set asks.
    """

    text: str
    regions: tuple[int, ...] = ()
    entities: tuple[str, ...] = ()
    lesion: int | None = None
    normal: bool = False
    question: str = ""


class CTDataSample(BaseDataElement):
    """Annotations and predictions of one case.

    Meta information: ``case_id``, ``patient_id``, ``spacing`` (mm, z y x), ``volume_shape`` (D, H, W), ``scheme``
    (name of the RegionScheme), ``region_names`` (of its ids 1..R), ``affine`` (4x4, voxel x y z to RAS+ mm),
    ``region_kept`` (region id to the share of the region that crops and shifts left in the volume; a region that is not
    named is whole), ``sets`` (names of the evaluation sets that hold the case), ``evaluation_set`` (the one that was
    chosen, or None), ``labels_source`` (where the labels come from, or None).

    Annotations: ``impression`` and ``findings`` (str), ``steps`` (list of CoTStep), ``labels``
    (name to 1, 0 or None), ``lesion_map`` (uint8 tensor D H W, where there is one).

    Predictions carry the prefix ``pred_`` and are tensors on the CPU.
    """
