"""Any data set on disk, through its case manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.manifest import read_manifest
from ctvlm.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class ManifestCT(BaseDataset):
    """Cases of one split of a manifest (see ``ctvlm.datasets.manifest``).

    Args:
        ann_file: the manifest; file paths in it are relative to it.
        split: keep these cases only; None keeps all.
        scheme: name or path of the RegionScheme.
        cache: keep what the leading deterministic transforms return in memory (per worker process): for data sets
            that fit, epochs after the first cost no reading.
        kwargs: as ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError, ManifestError: as ``read_manifest``.
    """

    def __init__(
        self,
        ann_file: str,
        split: str | None = None,
        scheme: str = "thorax_abdomen_20",
        pipeline: Sequence[dict | Callable] = (),
        cache: bool = False,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.scheme = RegionScheme.load(scheme)
        self._scheme_name = scheme
        self._cache: dict[int, dict] | None = {} if cache else None
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(ann_file=ann_file, pipeline=built, **kwargs)
        self._metainfo.update(scheme=self.scheme.name, regions=self.scheme.names, split=split)

    def load_data_list(self) -> list[dict]:
        cases = read_manifest(self.ann_file, self.split)
        return [{**case, "scheme": self._scheme_name} for case in cases]

    def prepare_data(self, idx: int) -> Any:
        results = self._prefix(idx)
        for transform in self.pipeline.transforms[self._prefix_length :]:
            results = transform(results)
            if results is None:
                return None
        return results

    def texts(self) -> list[str]:
        """All impressions and step texts, for fitting a tokenizer.

        Cases without text in the manifest are read and measured, where the pipeline has a transform that writes text.
        """
        writes = any(getattr(t, "writes_text", False) for t in self.pipeline.transforms[: self._prefix_length])
        out: list[str] = []
        for idx in range(len(self)):
            case = self.get_data_info(idx)
            if writes and not (case["report"].get("impression") and case["cot"]):
                case = self._prefix(idx)
            out += [case["report"].get("impression", ""), *(step["text"] for step in case["cot"])]
        return [text for text in out if text]

    @property
    def _prefix_length(self) -> int:
        transforms = self.pipeline.transforms
        return next((i for i, t in enumerate(transforms) if not getattr(t, "deterministic", False)), len(transforms))

    def _prefix(self, idx: int) -> dict:
        """Results after the deterministic transforms; later ones must not change their arrays in place."""
        if self._cache is not None and idx in self._cache:
            return dict(self._cache[idx])
        results = self.get_data_info(idx)
        for transform in self.pipeline.transforms[: self._prefix_length]:
            results = transform(results)
        if self._cache is not None:
            self._cache[idx] = results
        return dict(results)
