"""PhantomCT: a data set that needs no download."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ctvlm.anatomy import RegionScheme
from ctvlm.phantom.disk_cache import DiskCache
from ctvlm.phantom.field import FIELDS
from ctvlm.phantom.packed import Job, PackedCase
from ctvlm.phantom.plan import sample_plan
from ctvlm.phantom.reasoning import write_report
from ctvlm.registry import DATASETS, TRANSFORMS
from ctvlm.utils.training_data import PHANTOM_SOURCE, data_record

SCHEME = "thorax_abdomen_20"
CHUNK = 16  # cases a worker draws before it reports: few enough for a smooth bar, enough to hide the pickling


def case_seed(seed: int, split: str, index: int) -> int:
    """Seed of one case. Splits differ in the entropy itself, so that no case of one can occur in another."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
    return int(sequence.generate_state(1, np.uint64)[0])


def _draw_chunk(jobs: list[Job]) -> list[PackedCase]:
    return [PackedCase.draw(job) for job in jobs]


@DATASETS.register_module()
class PhantomCT(BaseDataset):
    """Chest-abdomen CTs drawn from a seed, with region maps, lesion maps, labels and reasoning steps.

    Cases of different splits are different patients. They are drawn on first need: all at once in ``num_workers``
    processes where ``cache`` is on, else one by one, anew each time. With ``cache_dir`` they are drawn once and read
    by every later run and by runs side by side (see DiskCache). What is drawn depends on none of these.

    Args:
        num_cases: cases in this split.
        seed: of the whole data set.
        split: any name; each has patients of its own.
        shape: voxels (D, H, W). The same case in another shape is the same patient.
        field: ``'chest_abdomen'``, or ``'any'``: slabs at any height and views of one side as well (see ``set_field``).
        with_region_map: give the region map; without it, ``results['region_map']`` is None.
        reword: tell a case in other words each time it is read, with another choice of what is said to be normal:
            a head that writes learns what is seen and not one wording by heart. Drawn from torch's random state.
        cache: keep the drawn cases in memory (about 2.3 bytes a voxel).
        cache_dir: folder to keep drawn cases in (about 2.3 bytes a voxel); None writes nothing.
        num_workers: processes that draw; 0 draws in this one.
        kwargs: as ``mmengine.dataset.BaseDataset``.

    Raises:
        ValueError: no cases, a shape that is not three sizes, an unknown field, a scheme other than
            ``thorax_abdomen_20``.
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
        **kwargs: Any,
    ) -> None:
        if num_cases < 1:
            raise ValueError(f"num_cases is {num_cases}; expected at least 1")
        if len(shape) != 3 or min(shape) < 8:
            raise ValueError(f"shape is {tuple(shape)}; expected (D, H, W), each at least 8 voxels")
        if scheme != SCHEME:
            raise ValueError(f"scheme is {scheme!r}; phantoms are drawn with {SCHEME!r} only")
        if field not in FIELDS:
            raise ValueError(f"field is {field!r}; expected one of {', '.join(FIELDS)}")
        self.num_cases, self.seed, self.split, self.field = num_cases, seed, split, field
        self.shape = tuple(int(n) for n in shape)
        self.with_region_map, self.reword = with_region_map, reword
        self.cache, self.num_workers = cache, num_workers
        self.scheme = RegionScheme.load(scheme)
        self._disk = None if cache_dir is None else DiskCache(cache_dir)
        self._store: dict[int, PackedCase] = {}
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
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

    def prepare_data(self, idx: int) -> Any:
        return self.pipeline(self.results(idx))

    def results(self, idx: int) -> dict:
        """The results dict of a case before the pipeline: the keys of a manifest, with arrays. ``volume`` is
        read-only: it may be cached."""
        info = self.get_data_info(idx)
        packed = self._drawn(info, idx % len(self))
        packed.case.volume.setflags(write=False)  # a transform that works in place must not change the cache
        region, lesion = packed.maps()
        case = packed.case
        report, cot = case.report, case.cot
        if self.reword:
            plan = replace(sample_plan(case.seed, self.field), text_seed=int(torch.randint(2**31, ())))
            told = write_report(plan)
            report, cot = dict(findings=told.findings, impression=told.impression), told.steps
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
        """What a checkpoint trained on this data set records."""
        return [data_record("PhantomCT", len(self), self.split, "phantom", True, self.scheme.name, [PHANTOM_SOURCE])]

    def texts(self) -> list[str]:
        """Impressions and step texts of the split, for fitting a tokenizer. Nothing is drawn for it."""
        out: list[str] = []
        for idx in range(len(self)):
            report = write_report(sample_plan(self.get_data_info(idx)["case_seed"], self.field))
            out += [report.impression, *(step["text"] for step in report.steps)]
        return out

    def _chunks(self) -> list[list[Job]]:
        """The jobs of the split, as they are drawn and kept on disk."""
        infos = [self.get_data_info(i) for i in range(len(self))]
        jobs = [(info["case_seed"], self.shape, info["case_id"], info["patient_id"], self.field) for info in infos]
        return [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]

    def _drawn(self, info: dict, idx: int) -> PackedCase:
        key = info["case_seed"]
        if key in self._store:
            return self._store[key]
        # A worker of a data loader serves a part of the cases and may not have children: it draws as it goes.
        if self.cache and not multiprocessing.current_process().daemon:
            self._draw_all()
            return self._store[key]
        chunk, place = self._chunks()[idx // CHUNK], idx % CHUNK
        found = None if self._disk is None else self._disk.load(chunk, only=place)
        if found is None and self._disk is not None:
            drawn = _draw_chunk(chunk)
            self._disk.save(chunk, drawn)
            found = drawn[place : place + 1]
        packed = found[0] if found else PackedCase.draw(chunk[place])
        if self.cache:
            self._store[key] = packed
        return packed

    def _draw_all(self) -> None:
        chunks = self._chunks()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not is_main_process(), transient=True) as progress:
            task = progress.add_task(f"Drawing phantom CTs ({self.split})", total=len(self))
            missing = []
            for chunk in chunks:
                found = None if self._disk is None else self._disk.load(chunk)
                if found is None:
                    missing.append(chunk)
                else:
                    self._keep(found)
                    progress.advance(task, len(chunk))
            for chunk, drawn in zip(missing, self._draw(missing), strict=True):
                if self._disk is not None:
                    self._disk.save(chunk, drawn)
                self._keep(drawn)
                progress.advance(task, len(chunk))

    def _keep(self, cases: list[PackedCase]) -> None:
        self._store |= {packed.case.seed: packed for packed in cases}

    def _draw(self, chunks: list[list[Job]]) -> Iterator[list[PackedCase]]:
        done = 0
        if self.num_workers > 0 and len(chunks) > 1:
            # Spawned, not forked: the parent holds threads by now (torch, a progress bar).
            context = multiprocessing.get_context("spawn")
            try:
                with ProcessPoolExecutor(min(self.num_workers, len(chunks)), mp_context=context) as pool:
                    for drawn in pool.map(_draw_chunk, chunks):
                        done += 1
                        yield drawn
                return
            except (BrokenProcessPool, RuntimeError) as error:
                # A main script without the __main__ guard, or no room for processes.
                print_log(f"PhantomCT draws in one process, workers could not start: {error}", "current")
        yield from map(_draw_chunk, chunks[done:])
