"""PhantomCT: a data set that needs no download."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.phantom.case import PhantomCase, generate_case
from ctvlm.datasets.phantom.plan import sample_plan
from ctvlm.datasets.phantom.reasoning import write_report
from ctvlm.registry import DATASETS, TRANSFORMS

SCHEME = "thorax_abdomen_20"
CHUNK = 16  # cases a worker draws before it reports: few enough for a smooth bar, enough to hide the pickling


def case_seed(seed: int, split: str, index: int) -> int:
    """Seed of one case. Splits differ in the entropy itself, so that no case of one can occur in another."""
    sequence = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
    return int(sequence.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class _Packed:
    """A drawn case with its two label maps deflated: they are mostly runs, and a split must fit in memory."""

    case: PhantomCase
    region: bytes
    lesion: bytes

    @classmethod
    def of(cls, seed: int, shape: tuple[int, ...], case_id: str, patient_id: str) -> _Packed:
        case = generate_case(seed, shape, case_id, patient_id)
        region, lesion = (zlib.compress(a.tobytes(), 1) for a in (case.region_map, case.lesion_map))
        for name in ("region_map", "lesion_map"):
            object.__setattr__(case, name, None)
        return cls(case, region, lesion)

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        shape = self.case.volume.shape
        self.case.volume.setflags(write=False)  # a transform that works in place must not change the cache
        region, lesion = (np.frombuffer(bytearray(zlib.decompress(b)), np.uint8) for b in (self.region, self.lesion))
        return region.reshape(shape), lesion.reshape(shape)


def _draw_chunk(jobs: list[tuple[int, tuple[int, ...], str, str]]) -> list[_Packed]:
    return [_Packed.of(*job) for job in jobs]


@DATASETS.register_module()
class PhantomCT(BaseDataset):
    """Chest-abdomen CTs drawn from a seed, with region maps, lesion maps, labels and reasoning steps.

    Cases of different splits are different patients. They are drawn on first need: all at once in ``num_workers``
    processes where ``cache`` is on, else one by one, anew each time. What is drawn depends on neither.

    Args:
        num_cases: cases in this split.
        seed: of the whole data set.
        split: any name; each has patients of its own.
        shape: voxels (D, H, W). The same case in another shape is the same patient.
        with_region_map: give the region map; without it, ``results['region_map']`` is None.
        cache: keep the drawn cases in memory (about 2.3 bytes a voxel).
        num_workers: processes that draw; 0 draws in this one.
        kwargs: as ``mmengine.dataset.BaseDataset``.

    Raises:
        ValueError: no cases, a shape that is not three sizes, or a scheme other than ``thorax_abdomen_20``.
    """

    def __init__(
        self,
        num_cases: int,
        seed: int = 0,
        split: str = "train",
        shape: Sequence[int] = (24, 96, 96),
        pipeline: Sequence[dict | Callable] = (),
        with_region_map: bool = True,
        cache: bool = True,
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
        self.num_cases, self.seed, self.split = num_cases, seed, split
        self.shape = tuple(int(n) for n in shape)
        self.with_region_map, self.cache, self.num_workers = with_region_map, cache, num_workers
        self.scheme = RegionScheme.load(scheme)
        self._store: dict[int, _Packed] = {}
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
        packed = self._drawn(info)
        region, lesion = packed.maps()
        case = packed.case
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
            report=dict(case.report),
            cot=[dict(step) for step in case.cot],
            labels=dict(case.labels),
        )

    def texts(self) -> list[str]:
        """Impressions and step texts of the split, for fitting a tokenizer. Nothing is drawn for it."""
        out: list[str] = []
        for idx in range(len(self)):
            report = write_report(sample_plan(self.get_data_info(idx)["case_seed"]))
            out += [report.impression, *(step["text"] for step in report.steps)]
        return out

    def _job(self, info: dict) -> tuple[int, tuple[int, ...], str, str]:
        return info["case_seed"], self.shape, info["case_id"], info["patient_id"]

    def _drawn(self, info: dict) -> _Packed:
        key = info["case_seed"]
        if key in self._store:
            return self._store[key]
        # A worker of a data loader serves a part of the cases and may not have children: it draws as it goes.
        if self.cache and not multiprocessing.current_process().daemon:
            self._draw_all()
            return self._store[key]
        packed = _Packed.of(*self._job(info))
        if self.cache:
            self._store[key] = packed
        return packed

    def _draw_all(self) -> None:
        infos = [self.get_data_info(i) for i in range(len(self))]
        jobs = [self._job(info) for info in infos if info["case_seed"] not in self._store]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not is_main_process(), transient=True) as progress:
            task = progress.add_task(f"Drawing phantom CTs ({self.split})", total=len(jobs))
            for job, packed in zip(jobs, self._draw(jobs), strict=True):
                self._store[job[0]] = packed
                progress.advance(task)

    def _draw(self, jobs: list[tuple]) -> Iterator[_Packed]:
        chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
        done = 0
        if self.num_workers > 0 and len(chunks) > 1:
            # Spawned, not forked: the parent holds threads by now (torch, a progress bar).
            context = multiprocessing.get_context("spawn")
            try:
                with ProcessPoolExecutor(min(self.num_workers, len(chunks)), mp_context=context) as pool:
                    for chunk in pool.map(_draw_chunk, chunks):
                        done += 1
                        yield from chunk
                return
            except (BrokenProcessPool, RuntimeError) as error:
                # A main script without the __main__ guard, or no room for processes.
                print_log(f"PhantomCT draws in one process, workers could not start: {error}", "current")
        yield from _flat(_draw_chunk([job]) for chunk in chunks[done:] for job in chunk)


def _flat(parts: Iterable[list[_Packed]]) -> Iterator[_Packed]:
    for part in parts:
        yield from part
