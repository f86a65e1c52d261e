"""Packing of a case into model inputs."""

from __future__ import annotations

import numpy as np
import torch

from ctvlm.anatomy import scheme_of
from ctvlm.registry import TRANSFORMS
from ctvlm.structures import CoTStep, CTDataSample
from ctvlm.utils import BadDataError


@TRANSFORMS.register_module()
class PackCTInputs:
    """Pack to ``inputs`` (``volume`` (1, D, H, W) in HU, ``region_map`` (D, H, W) uint8 or None) and ``data_samples``.

    Args:
        impression_from_steps: use the text of the reasoning steps as impression of a case without one. Otherwise such
            a case is excluded from volume-level training and from retrieval.

    Raises:
        BadDataError: a region of the region map or of a step is not in the scheme, or the stage of a step is unknown;
            the message contains the case.
    """

    def __init__(self, impression_from_steps: bool = False) -> None:
        self.impression_from_steps = impression_from_steps

    def __call__(self, results: dict) -> dict:
        scheme = scheme_of(results)
        case = results["case_id"]
        region_map = results.get("region_map")
        if region_map is not None and int(region_map.max()) > scheme.num_regions:
            raise BadDataError(
                f"case {case}: found region id {int(region_map.max())}; expected 0..{scheme.num_regions} of the scheme "
                f"{scheme.name!r}; declare the source of the region map"
            )
        try:
            steps = [
                CoTStep(
                    text=step["text"],
                    regions=tuple(scheme.id_of(name) for name in step.get("regions") or ()),
                    entities=tuple(step.get("entities") or ()),
                    lesion=step.get("lesion"),
                    normal=bool(step.get("normal", False)),
                    question=step.get("question") or "",
                    stage=step.get("stage") or "",
                )
                for step in results.get("cot") or []
            ]
        except ValueError as error:
            raise BadDataError(f"case {case}: {error}") from None
        report = results.get("report") or {}
        sample = CTDataSample(
            metainfo=dict(
                case_id=case,
                patient_id=results["patient_id"],
                spacing=tuple(results["spacing"]),
                volume_shape=tuple(int(n) for n in results["volume"].shape),
                scheme=scheme.name,
                region_names=tuple(scheme.names),
                # Used by ctvlm.evaluation; see ManifestCT.
                sets=tuple((results.get("extra") or {}).get("sets") or ()),
                evaluation_set=results.get("evaluation_set"),
                labels_source=(results.get("extra") or {}).get("labels_source"),
                region_kept={scheme.id_of(name): share for name, share in (results.get("region_kept") or {}).items()},
                affine=[[float(x) for x in row] for row in results["affine"]],
            )
        )
        sample.impression = report.get("impression") or ""
        if self.impression_from_steps and not sample.impression.strip():
            sample.impression = " ".join(step.text.strip() for step in steps if step.text.strip())
        sample.findings = report.get("findings") or ""
        sample.steps = steps
        sample.labels = dict(results.get("labels") or {})
        if results.get("lesion_map") is not None:
            sample.lesion_map = _to_tensor(results["lesion_map"])
        inputs = dict(
            volume=_to_tensor(results["volume"])[None],
            region_map=None if region_map is None else _to_tensor(region_map),
        )
        return dict(inputs=inputs, data_samples=sample)


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """Copy, because in-place operations must not change cached arrays. NumPy copies ten times faster than torch."""
    return torch.from_numpy(np.array(array))
