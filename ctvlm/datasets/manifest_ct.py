"""Data set of a case manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.datasets.manifest import ManifestError, read_manifest
from ctvlm.datasets.training_text import GIVEN, NO_TEXT, text_origin, text_source, with_steps
from ctvlm.registry import DATASETS, TRANSFORMS
from ctvlm.utils.bad_cases import BAD_DATA, RAISE, ReplacesBadCases
from ctvlm.utils.cached_pipeline import CachesPipeline
from ctvlm.utils.training_data import PHANTOM_SOURCE, data_record


@DATASETS.register_module()
class ManifestCT(CachesPipeline, ReplacesBadCases, BaseDataset):
    """Cases of one split of a manifest (see ``ctvlm.datasets.manifest``).

    A case with a report and no ``cot`` gets one step per sentence of its findings, or of its impression if it has no
    findings (see ``ctvlm.datasets.training_text``).

    Args:
        ann_file: path or fsspec URL of the manifest.
        split: keep only the cases of this split; None keeps all.
        scheme: name or path of the RegionScheme.
        pipeline: transforms, as configs or callables.
        cache: keep the results of the leading deterministic transforms in memory, which the data workers share, so that
            only the first epoch reads files. Cases that do not fit are read in each epoch (see ``CachesPipeline``).
        evaluation_set: keep the cases with this set in ``extra.sets`` (CT-RATE: all, first, nohead, colipri).
        allow_outside: accept a manifest whose files are neither in its folder nor in ``data_root``; only for manifests
            that you trust (see ``read_manifest``).
        bad_cases: for a case that cannot be read or transformed: ``raise``, or ``skip``: train on another case instead,
            with a warning that contains the file. Only for training data.
        max_bad_cases: with ``skip``, the training stops if more than this fraction of the cases cannot be read.
        kwargs: see ``mmengine.dataset.BaseDataset``.

    Raises:
        FileNotFoundError, ManifestError: see ``read_manifest``.
        TooManyBadCasesError: see ``max_bad_cases``.
    """

    def __init__(
        self,
        ann_file: str,
        split: str | None = None,
        scheme: str = DEFAULT_SCHEME,
        pipeline: Sequence[dict | Callable] = (),
        cache: bool = False,
        evaluation_set: str | None = None,
        allow_outside: bool = False,
        bad_cases: str = RAISE,
        max_bad_cases: float = 0.01,
        **kwargs: Any,
    ) -> None:
        self.set_bad_cases(bad_cases, max_bad_cases, kwargs.get("test_mode", False))
        self.split = split
        self.allow_outside = allow_outside
        self.evaluation_set = evaluation_set
        self._labels_source: list[str] = []
        self.scheme = RegionScheme.load(scheme)
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        self.set_cache(cache, built)
        super().__init__(ann_file=ann_file, pipeline=built, **kwargs)
        self._metainfo.update(scheme=self.scheme.name, regions=self.scheme.names, split=split)
        self._metainfo.update(evaluation_set=evaluation_set, labels_source=", ".join(self._labels_source))

    def load_data_list(self) -> list[dict]:
        roots = [self.data_root] if self.data_root else []
        cases = read_manifest(self.ann_file, self.split, allow_outside=self.allow_outside, data_roots=roots)
        if self.evaluation_set is not None:
            known = sorted({name for case in cases for name in case["extra"].get("sets") or ()})
            cases = [case for case in cases if self.evaluation_set in (case["extra"].get("sets") or ())]
            if not cases:
                raise ManifestError(
                    f"{self.ann_file}: found no case in evaluation set {self.evaluation_set!r}; available sets: "
                    f"{', '.join(known) or 'none'}; choose one of them, or convert again with ct_rate_to_manifest.py"
                )
        self._labels_source = sorted({s for case in cases if (s := case["extra"].get("labels_source"))})
        return [{**case, "scheme": self.scheme.reference, "evaluation_set": self.evaluation_set} for case in cases]

    def get_data_info(self, idx: int) -> dict:
        return with_steps(super().get_data_info(idx), self.scheme.reference)

    def read_case(self, idx: int) -> dict:
        """Entry of the manifest."""
        return self.get_data_info(idx)

    def texts(self) -> list[str]:
        """Return all impressions and step texts, for example to train a tokenizer.

        Cases without text are loaded if the pipeline has a transform that writes text (MeasuredReasoning). Those that
        cannot be read have no text if ``bad_cases`` is ``skip``.
        """
        writes = any(getattr(t, "writes_text", False) for t in self.pipeline.transforms[: self.prefix_length])
        out: list[str] = []
        for idx in range(len(self)):
            case = self.get_data_info(idx)
            if writes and text_source(case) == NO_TEXT:
                try:
                    case = self.prefix(idx)
                except BAD_DATA as error:
                    if self.bad_cases == RAISE:
                        raise
                    self.record_bad_case(idx, error)
            out += [case["report"].get("impression", ""), *(step["text"] for step in case["cot"])]
        return [text for text in out if text]

    def data_records(self) -> list[dict]:
        """Return the training-data records of a checkpoint, one for each combination of source type and text origin.

        Cases with ``source`` PhantomCT (from ``write_phantom.py``) are synthetic.
        """
        writes = any(getattr(t, "writes_text", False) for t in self.pipeline.transforms)
        groups: dict[tuple[bool, str], list[str | None]] = {}
        for idx in range(len(self)):
            case = super().get_data_info(idx)
            origin = text_origin(case, measures=writes)
            groups.setdefault((case["source"] == PHANTOM_SOURCE, origin), []).append(case["source"])
        return [
            data_record(
                "ManifestCT",
                cases=len(sources),
                split=self.split,
                text="phantom" if synthetic and text == GIVEN else text,
                synthetic=synthetic,
                scheme=self.scheme.name,
                sources=sorted({source for source in sources if source}),
            )
            for (synthetic, text), sources in sorted(groups.items())
        ]
