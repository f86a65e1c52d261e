"""Findings of phantoms by organ system; importing this package registers them."""

from ctvlm.phantom.findings import (
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
from ctvlm.phantom.findings.base import FINDINGS, Finding, FindingType, Site
from ctvlm.text.finding_labels import CT_RATE_LABELS

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
