"""Data set of chest CTs with one folder per patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctvlm.datasets import ManifestCT, ManifestError
from ctvlm.registry import DATASETS

SCHEME = Path(__file__).with_name("region_scheme.json")


@DATASETS.register_module()
class ChestCT(ManifestCT):
    """Cases of a manifest that ``folders_to_manifest.py`` wrote, with the regions of ``region_scheme.json``.

    Args:
        ann_file: the manifest.
        phases: contrast phases to keep (``extra.phase`` of a case); None keeps all.
        scheme: path of the region scheme.
        kwargs: as ``ManifestCT``.

    Raises:
        ManifestError: no case has one of the phases.
    """

    def __init__(
        self, ann_file: str, phases: Sequence[str] | None = None, scheme: str = str(SCHEME), **kwargs: Any
    ) -> None:
        self.phases = phases  # before super().__init__, which loads the cases
        super().__init__(ann_file, scheme=scheme, **kwargs)

    def load_data_list(self) -> list[dict]:
        cases = super().load_data_list()
        if self.phases is None:
            return cases
        kept = [case for case in cases if case["extra"].get("phase") in self.phases]
        if not kept:
            known = sorted({str(case["extra"].get("phase")) for case in cases})
            raise ManifestError(
                f"{self.ann_file}, split {self.split!r}: found phases {', '.join(known)}; expected one of "
                f"{', '.join(self.phases)}. Change phases."
            )
        return kept
