"""PhantomCT: a data set of synthetic CTs that needs no download."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process

from ctvlm.anatomy import RegionScheme
from ctvlm.phantom.disk_cache import DiskCache
from ctvlm.phantom.draw_ahead import POOL_ERRORS, DrawAhead, in_worker, report_no_pool, start_pool
from ctvlm.phantom.field import FIELDS
from ctvlm.phantom.packed import Job, PackedCase
from ctvlm.phantom.plan import sample_plan
from ctvlm.phantom.reasoning import case_texts, write_report
from ctvlm.registry import DATASETS, TRANSFORMS
from ctvlm.utils.bad_cases import RAISE, ReplacesBadCases
from ctvlm.utils.cached_pipeline import CachesPipeline, is_deterministic
from ctvlm.utils.progress import progress_bar
from ctvlm.utils.shared_cache import SharedCache
from ctvlm.utils.training_data import PHANTOM_SOURCE, data_record

SCHEME = "thorax_abdomen_20"
FEW = 2  # cases that are drawn one by one: a look at a data set does not draw all of it
CHUNK = 16  # cases per task of a worker: few enough for a smooth progress bar, enough to hide the cost of pickling


def case_seed(seed: int, split: str, index: int) -> int:
    """Seed of one case. The split is part of the entropy, so different splits have different cases."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
    return int(sequence.generate_state(1, np.uint64)[0])


@DATASETS.register_module()
class PhantomCT(CachesPipeline, ReplacesBadCases, BaseDataset):
    """Synthetic chest-abdomen CTs with region maps, lesion maps, labels and reasoning steps.

    Different splits have different patients. A training without data workers draws in ``num_workers`` processes while
    it runs (see ``expect``), and data workers draw the cases that they read. Otherwise cases are drawn on first access:
    with ``cache`` the first two one by one and then all others in ``num_workers`` processes, without it one by one on
    every access. With ``cache_dir`` they are drawn once and read by later and concurrent runs (see `DiskCache`). None
    of these options changes the cases.

    Args:
        num_cases: number of cases in this split.
        seed: seed of the whole data set.
        split: name of the split.
        shape: voxels (D, H, W). A case has the same patient in every shape.
        field: ``'chest_abdomen'``, or ``'any'``: also slabs at any height and scans of one side (see ``set_field``).
        with_region_map: False sets ``results['region_map']`` to None.
        reword: write a new text each time a case is read, with other wordings and another choice of normal statements,
            so that a generation head does not memorise texts. Uses torch's random state.
        cache: keep the cases in memory (about 2.3 bytes per voxel), which the data workers share: the drawn ones, or if
            the first transforms are deterministic, such as ResampleCT, their results (see ``CachesPipeline``). Cases
            that do not fit are drawn again.
        cache_dir: folder of the disk cache (about 2.3 bytes per voxel); None writes nothing.
        num_workers: number of processes that draw; 0 draws in this process.
        scheme: ``thorax_abdomen_20``; part of the interface of data sets.
        bad_cases: for a case that cannot be read or transformed: ``raise``, or ``skip``: train on another case instead,
            with a warning that contains the file. Only for training data.
        max_bad_cases: with ``skip``, the training stops if more than this fraction of the cases cannot be read.
        kwargs: see ``mmengine.dataset.BaseDataset``.

    Raises:
        ValueError: ``num_cases`` below 1, a shape that is not three sizes of at least 8, an unknown field or scheme.
        TooManyBadCasesError: see ``max_bad_cases``.
    """

    def __init__(
        self,
        num_cases: int,
        seed: int = 0,
        split: str = "train",
        shape: Sequence[int] = (24, 96, 96),
        field: str = "chest_abdomen",
        pipeline: Sequence[dict | Callable] = (),
        with_region_map: bool = True,
        reword: bool = False,
        cache: bool = True,
        cache_dir: str | Path | None = None,
        num_workers: int = 2,
        scheme: str = SCHEME,
        bad_cases: str = RAISE,
        max_bad_cases: float = 0.01,
        **kwargs: Any,
    ) -> None:
        if num_cases < 1:
            raise ValueError(f"num_cases is {num_cases}; expected at least 1")
        if len(shape) != 3 or min(shape) < 8:
            raise ValueError(f"shape is {tuple(shape)}; expected (D, H, W), each at least 8 voxels")
        if scheme != SCHEME:
            raise ValueError(f"scheme is {scheme!r}; expected {SCHEME!r}, the only scheme of phantoms")
        if field not in FIELDS:
            raise ValueError(f"field is {field!r}; expected one of {', '.join(FIELDS)}")
        self.set_bad_cases(bad_cases, max_bad_cases, kwargs.get("test_mode", False))
        self.num_cases, self.seed, self.split, self.field = num_cases, seed, split, field
        self.shape = tuple(int(n) for n in shape)
        self.with_region_map, self.reword = with_region_map, reword
        self.num_workers = num_workers
        self.scheme = RegionScheme.load(scheme)
        self._disk = None if cache_dir is None else DiskCache(cache_dir)
        self._ahead = DrawAhead(num_workers, self.shape)
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        # With reword, the input of the pipeline has another text each time.
        prefix = cache and not reword and bool(built) and is_deterministic(built[0])
        self.set_cache(prefix, built)
        self._drawn_cases = SharedCache("PhantomCT") if cache and not prefix else None
        self._drew_all = False
        self._missed = 0  # cases that were read before they were drawn
        super().__init__(pipeline=built, **kwargs)
        self._metainfo.update(scheme=self.scheme.name, regions=self.scheme.names, split=split)

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                case_id=f"phantom_{self.split}_{self.seed}_{i}",
                patient_id=f"phantom_{self.split}_{self.seed}_{i}_patient",
                split=self.split,
                case_seed=case_seed(self.seed, self.split, i),
                scheme=SCHEME,
            )
            for i in range(self.num_cases)
        ]

    @property
    def kept(self) -> SharedCache | None:
        """The cases in memory."""
        return self._cached if self._drawn_cases is None else self._drawn_cases

    def read_case(self, idx: int) -> dict:
        """Input of the pipeline for a case, see ``results``."""
        return self.results(idx)

    def results(self, idx: int) -> dict:
        """Input of the pipeline for a case: the keys of a manifest, with arrays. ``volume`` is read-only."""
        info = self.get_data_info(idx)
        return self._results(info, self._drawn(info))

    def _results(self, info: dict, case: PackedCase) -> dict:
        case.volume.setflags(write=False)  # an in-place transform must not change the cache
        region, lesion = case.maps()
        report, cot = case.report, case.cot
        if self.reword:
            plan = replace(sample_plan(case.seed, self.field), text_seed=int(torch.randint(2**31, ())))
            new = write_report(plan)
            report, cot = dict(findings=new.findings, impression=new.impression), new.steps
        return dict(
            case_id=info["case_id"],
            patient_id=info["patient_id"],
            split=info["split"],
            scheme=info["scheme"],
            sample_idx=info["sample_idx"],
            volume=case.volume,
            region_map=region if self.with_region_map else None,
            lesion_map=lesion,
            spacing=case.spacing,
            affine=case.affine,
            report=dict(report),
            cot=[dict(step) for step in cot],
            labels=dict(case.labels),
        )

    def data_records(self) -> list[dict]:
        """Record of the training data for checkpoints."""
        return [data_record("PhantomCT", len(self), self.split, "phantom", True, self.scheme.name, [PHANTOM_SOURCE])]

    def texts(self) -> list[str]:
        """Impressions and step texts of the split, to fit a tokenizer. No volume is drawn."""
        seeds = [self.get_data_info(idx)["case_seed"] for idx in range(len(self))]
        return [text for texts in self._ahead.map(case_texts, seeds, [self.field] * len(self)) for text in texts]

    @property
    def ahead(self) -> int:
        """Number of cases that a training loop should pass to ``expect`` before it reads the first of them."""
        return self._ahead.size

    @property
    def drawing_processes(self) -> int:
        """Number of processes that draw during the first pass over the cases. A disk cache may have them already."""
        return self.num_workers if self.ahead and self._disk is None and not self.kept else 0

    def expect(self, indices: Iterable[int]) -> None:
        """Draw these cases next, in processes, before they are read. Other cases are drawn when they are read."""
        jobs = (self._job(self.get_data_info(idx)) for idx in indices if self.kept is None or idx not in self.kept)
        self._ahead.expect(job for job in jobs if not (self._disk and self._disk.path(job).exists()))

    def expect_no_more(self) -> None:
        """Do not draw the rest of the cases that were expected."""
        self._ahead.forget()

    def _job(self, info: dict) -> Job:
        return (info["case_seed"], self.shape, info["case_id"], info["patient_id"], self.field)

    def prefix(self, idx: int) -> dict:
        """Results of the leading deterministic transforms."""
        if self._cached is not None and idx not in self._cached:
            self._draw_others()
        results = super().prefix(idx)
        self._end_processes()
        return results

    def _drawn(self, info: dict) -> PackedCase:
        cases, idx = self._drawn_cases, info["sample_idx"]
        if cases is None:
            return self._draw_one(info)
        if idx not in cases:
            self._draw_others()
        packed = cases.get(idx)
        if packed is None:
            packed = self._draw_one(info)
            cases.put(idx, packed)
            self._end_processes()
        return packed

    def _end_processes(self) -> None:
        if self.kept is not None and len(self.kept) == len(self):
            self._ahead.close()

    def _draw_one(self, info: dict) -> PackedCase:
        job = self._job(info)
        packed = None if self._disk is None else self._disk.load(job)
        if packed is None:
            packed = PackedCase.draw(job) if in_worker() else self._ahead.take(job)
            if self._disk is not None:
                self._disk.save(job, packed)
        return packed

    def _draw_others(self) -> None:
        """Draw all cases that are kept, if more than a few are read and no training loop has given their order."""
        self._missed += 1
        if self._missed > FEW and not (self._drew_all or self._ahead.used or in_worker()):
            self.draw_all()

    def draw_all(self) -> None:
        """Draw the cases that are kept, in ``num_workers`` processes."""
        self._drew_all = True
        indices = [i for i in range(len(self)) if self.kept is None or i not in self.kept]
        infos = {(info := self.get_data_info(i))["case_seed"]: info for i in indices}
        with progress_bar(f"drawing phantom CTs ({self.split})", len(infos), enabled=is_main_process()) as advance:
            for case in self._all_cases([self._job(info) for info in infos.values()]):
                if not self._keep(infos[case.seed], case):
                    return
                advance(1)

    def _keep(self, info: dict, case: PackedCase) -> bool:
        """Keep a case; returns whether it fits."""
        idx = info["sample_idx"]
        if self._drawn_cases is not None:
            return self._drawn_cases.put(idx, case)
        self.keep_prefix(idx, self._results(info, case))
        return self._cached is not None and idx in self._cached

    def _all_cases(self, jobs: list[Job]) -> Iterator[PackedCase]:
        """The cases that are on disk, then the others."""
        missing = []
        for job in jobs:
            cached = None if self._disk is None else self._disk.load(job)
            if cached is None:
                missing.append(job)
            else:
                yield cached
        for job, drawn in zip(missing, self._draw(missing), strict=True):
            if self._disk is not None:
                self._disk.save(job, drawn)
            yield drawn

    def _draw(self, jobs: list[Job]) -> Iterator[PackedCase]:
        done = 0
        if self.num_workers > 0 and len(jobs) > CHUNK:
            try:
                with start_pool(min(self.num_workers, math.ceil(len(jobs) / CHUNK))) as pool:
                    for drawn in pool.map(PackedCase.draw, jobs, chunksize=CHUNK):
                        done += 1
                        yield drawn
                return
            except POOL_ERRORS as error:
                report_no_pool(error)
        yield from map(PackedCase.draw, jobs[done:])
