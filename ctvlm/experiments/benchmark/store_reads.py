"""Reading of a store with many cases, from the local disk and from a server."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ctvlm.datasets.manifest import read_manifest, write_manifest
from ctvlm.volume import files


@dataclass(frozen=True)
class Epoch:
    """One epoch of a data loader.

    Attributes:
        start_s: from the location of the manifest to the data loader; only for the first epoch.
        early_mib, late_mib: memory of the data workers after a tenth of the epoch, and at its end.
    """

    place: str
    epoch: int
    cases: int
    start_s: float
    seconds: float
    early_mib: float
    late_mib: float
    requests: int = 0
    sent_bytes: int = 0

    def row(self) -> dict[str, Any]:
        """Figures for a table."""
        return dict(
            store=self.place,
            epoch=str(self.epoch),
            cases=float(self.cases),
            start_s=self.start_s,
            cases_per_s=self.cases / self.seconds,
            requests_per_case=self.requests / self.cases,
            MiB_sent=self.sent_bytes / 2**20,
            workers_MiB=f"{self.early_mib:.0f} → {self.late_mib:.0f}",
        )


def repeat_store(manifest: str | Path, out: Path, cases: int) -> Path:
    """Write a store with this number of cases, copies of those of a local store. Returns its manifest."""
    source = read_manifest(manifest)
    lines = []
    for number in range(cases):
        case = json.loads(json.dumps(source[number % len(source)]))
        entries = [case["volume"], *filter(None, [case["region_map"]]), *case["lesion_masks"]]
        folder = out / "cases" / str(number)
        shutil.copytree(files.parent(case["volume"]["path"]), folder)
        for entry in entries:
            entry["path"] = str(folder / files.name(entry["path"]))
        lines.append({**case, "case_id": str(number), "patient_id": str(number), "split": "train"})
    write_manifest(lines, out / "manifest.jsonl")
    return out / "manifest.jsonl"


def read_epochs(
    place: str, manifest: str, transforms: Sequence[dict], epochs: int, workers: int, batch: int, server: Any = None
) -> list[Epoch]:
    """Read all cases with the data set and the data loader of a training.

    Args:
        transforms: the pipeline.
        server: ServedFolder of the manifest, whose requests are counted.
    """
    init_default_scope("ctvlm")
    start = time.perf_counter()
    loader: Any = Runner.build_dataloader(
        dict(
            batch_size=batch,
            num_workers=workers,
            persistent_workers=False,
            sampler=dict(type="DefaultSampler", shuffle=True),
            collate_fn=dict(type="pseudo_collate"),
            dataset=dict(type="ManifestCT", ann_file=manifest, pipeline=list(transforms)),
        ),
        seed=0,
    )
    start_s, results = time.perf_counter() - start, []
    for epoch in range(1, epochs + 1):
        requests, sent = (server.requests, server.sent_bytes) if server else (0, 0)
        start, cases, early_mib, late_mib = time.perf_counter(), 0, 0.0, 0.0
        for number, found in enumerate(loader):
            cases += len(found["data_samples"])
            if number in (len(loader) // 10, len(loader) - 1):
                early_mib, late_mib = early_mib or _workers_mib(), _workers_mib()
        seconds = time.perf_counter() - start
        if server:
            requests, sent = server.requests - requests, server.sent_bytes - sent
        results.append(
            Epoch(place, epoch, cases, start_s if epoch == 1 else 0.0, seconds, early_mib, late_mib, requests, sent)
        )
    return results


def _workers_mib() -> float:
    """Memory that only the child processes use."""
    total = 0
    for child in psutil.Process().children():
        try:
            total += child.memory_full_info().uss
        except psutil.Error:  # it has ended, or belongs to another user
            continue
    return total / 2**20
