"""Data sets and transforms; importing this package registers them."""

from ctvlm.datasets import transforms
from ctvlm.datasets.manifest import ManifestError, read_manifest, write_manifest
from ctvlm.datasets.manifest_ct import ManifestCT
from ctvlm.datasets.measured_reasoning import MeasuredReasoning

__all__ = [
    "ManifestCT",
    "ManifestError",
    "MeasuredReasoning",
    "read_manifest",
    "transforms",
    "write_manifest",
]
