"""A drawn case as it is kept: label maps deflated."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ctvlm.phantom.case import PhantomCase, generate_case

# What decides a case: seed, shape, case id, patient id, field.
Job = tuple[int, tuple[int, ...], str, str, str]


@dataclass(frozen=True)
class PackedCase:
    """A drawn case with its two label maps deflated: they are mostly runs, and a split must fit in memory."""

    case: PhantomCase
    region: bytes
    lesion: bytes

    @classmethod
    def draw(cls, job: Job) -> PackedCase:
        case = generate_case(*job)
        region, lesion = (zlib.compress(a.tobytes(), 1) for a in (case.region_map, case.lesion_map))
        return cls(replace(case, region_map=None, lesion_map=None), region, lesion)

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Region map and lesion map (D, H, W), writable copies."""
        shape = self.case.volume.shape
        region, lesion = (np.frombuffer(bytearray(zlib.decompress(b)), np.uint8) for b in (self.region, self.lesion))
        return region.reshape(shape), lesion.reshape(shape)
