"""The findings that a phantom can show, by organ system."""

from ctvlm.datasets.phantom.findings import abdomen, bones, devices, lungs, mediastinum, pleura
from ctvlm.datasets.phantom.findings.base import CT_RATE_LABELS, FINDINGS, Finding, FindingType, Site

__all__ = [
    "CT_RATE_LABELS",
    "FINDINGS",
    "Finding",
    "FindingType",
    "Site",
    "abdomen",
    "bones",
    "devices",
    "lungs",
    "mediastinum",
    "pleura",
]
