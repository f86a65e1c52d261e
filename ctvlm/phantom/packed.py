"""Drawn cases with compressed label maps."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields

import numpy as np

from ctvlm.phantom.case import CaseData, generate_case

# Arguments of generate_case: seed, shape, case id, patient id, field.
Job = tuple[int, tuple[int, ...], str, str, str]


@dataclass(frozen=True)
class PackedCase(CaseData):
    """A drawn case with compressed label maps (mostly runs of equal ids), so that a whole split fits in memory."""

    region: bytes
    lesion: bytes

    @classmethod
    def draw(cls, job: Job) -> PackedCase:
        """Draw a case. Imports no torch, so that a new process can begin at once."""
        case = generate_case(*job)
        region, lesion = (zlib.compress(a.tobytes(), 1) for a in (case.region_map, case.lesion_map))
        return cls(**{f.name: getattr(case, f.name) for f in fields(CaseData)}, region=region, lesion=lesion)

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Region map and lesion map (D, H, W), as writable copies."""
        shape = self.volume.shape
        region, lesion = (np.frombuffer(bytearray(zlib.decompress(b)), np.uint8) for b in (self.region, self.lesion))
        return region.reshape(shape), lesion.reshape(shape)
