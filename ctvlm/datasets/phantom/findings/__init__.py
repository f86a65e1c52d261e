"""The findings that a phantom can show, by organ system; importing this declares them all."""

from ctvlm.datasets.phantom.findings import (
    abdomen,
    airways,
    bones,
    devices,
    heart,
    liver,
    lungs_diffuse,
    lungs_focal,
    mediastinum,
    pleura,
)
from ctvlm.datasets.phantom.findings.base import CT_RATE_LABELS, FINDINGS, Finding, FindingType, Site

__all__ = [
    "CT_RATE_LABELS",
    "FINDINGS",
    "Finding",
    "FindingType",
    "Site",
    "abdomen",
    "airways",
    "bones",
    "devices",
    "heart",
    "liver",
    "lungs_diffuse",
    "lungs_focal",
    "mediastinum",
    "pleura",
]
