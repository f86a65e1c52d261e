"""Write one file per case: resumable, in several processes, on a Dask cluster, or one shard of the cases."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ctvlm.apis.case_input import CaseFailure, CaseInputs, InputCase
from ctvlm.apis.fingerprint import case_fingerprint, case_key, model_checksum, outdated
from ctvlm.apis.inferencer import Inferencer, tracked
from ctvlm.utils import CTVLMError, atomic_write
from ctvlm.utils.code_version import code_version
from ctvlm.utils.parallel import WorkerKilledError, run_parallel, shard_of

# Increment when the files change, so that existing ones are written again.
FORMAT = 2
DONE, KEPT, FAILED = "done", "kept", "failed"


@dataclass(frozen=True)
class RunOptions:
    """How ``save_cases`` runs.

    Attributes:
        batch_size: cases that the model processes at a time.
        workers, scheduler: see ``run_parallel``; each process opens the model once.
        shard: (I, N): only every N-th case, starting with I.
        progress: show a progress bar on a terminal, on standard error.
    """

    batch_size: int = 4
    workers: int = 1
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """What happened to a case: ``state`` is done, kept (already present) or failed."""

    case_id: str
    state: str
    path: str
    reason: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain containers for JSON."""
        return dict(case_id=self.case_id, state=self.state, path=self.path, reason=self.reason)


@dataclass
class SaveSummary:
    """Outcomes of a run.

    Attributes:
        out: folder or file that was written.
        outcomes: of the cases of this run (of its shard).
        unfinished: cases of other shards that have no result yet.
        current: files with up-to-date results of all cases, also of other shards.
        notes: remarks on whole folders of the input.
    """

    out: str
    outcomes: list[Outcome] = field(default_factory=list)
    unfinished: int = 0
    current: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Number of cases with a state."""
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def exit_code(self) -> int:
        """Exit status for a command: 1 if a case failed, else 0."""
        return int(self.count(FAILED) > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        counts = {state: self.count(state) for state in (DONE, KEPT, FAILED)}
        cases = [outcome.to_dict() for outcome in self.outcomes]
        return dict(out=self.out, **counts, unfinished=self.unfinished, cases=cases, notes=self.notes)


@dataclass(frozen=True)
class CaseWriter(ABC):
    """Writes the result of a case to a file below ``folder``. Instances are sent to other processes."""

    folder: str

    suffix = ""

    def path(self, case_id: str) -> Path:
        """File of a case; a "/" in the id gives subfolders."""
        parts = [_file_name(part) for part in case_id.split("/")]
        return Path(self.folder, *parts[:-1], parts[-1] + self.suffix)

    def failure_path(self, case_id: str) -> Path:
        """File with the reason why a case has no result."""
        path = self.path(case_id)
        return path.with_name(path.name.removesuffix(self.suffix) + ".failed.json")

    @property
    def settings(self) -> list[Any]:
        """Options that change the content of the files."""
        return [type(self).__name__]

    @abstractmethod
    def write(self, result: Any, path: Path, record: dict[str, Any]) -> None:
        """Write a result and the record of its origin, atomically."""

    @abstractmethod
    def read_record(self, path: Path) -> dict[str, Any]:
        """Record of a written file. May raise any error for a missing or damaged file."""

    def is_current(self, case_id: str, fingerprint: str) -> bool:
        """Whether the file of a case exists and was made from the same model, input and options."""
        return self.record(case_id).get("fingerprint") == fingerprint

    def record(self, case_id: str) -> dict[str, Any]:
        """Record of the file of a case; {} without a valid file."""
        try:
            return self.read_record(self.path(case_id))
        except Exception:  # every parser has its own errors for damaged files
            return {}

    def state_of(self, case_id: str, fingerprint: str) -> str:
        """``KEPT`` if the file of a case is current, ``FAILED`` if its failure is, else ""."""
        if self._failure(case_id).get("fingerprint") == fingerprint:
            return FAILED
        return KEPT if self.is_current(case_id, fingerprint) else ""

    def owner(self, case_id: str) -> str:
        """``case_key`` of the CT to which the files of a case id belong; "" if there are none."""
        return self.record(case_id).get("key") or self._failure(case_id).get("key", "")

    def discard(self, case_id: str) -> None:
        """Remove the result of a case."""
        self.path(case_id).unlink(missing_ok=True)

    def _failure(self, case_id: str) -> dict[str, Any]:
        try:
            return json.loads(self.failure_path(case_id).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def save_cases(
    inferencer: Inferencer, found: CaseInputs, writer: CaseWriter, options: RunOptions | None = None
) -> SaveSummary:
    """Write the results of all cases. Files of an earlier run are kept if model, input and options are the same.

    A result that is not current is removed if its case fails, but kept if the only reason is that the CT is missing:
    its disk may be unavailable.

    Raises:
        CTVLMError: a file would replace the result of another CT with the same case id; ``workers`` or ``scheduler``
            with a model that was passed as a module; a worker opens other weights; errors of ``run_parallel``.
    """
    options = options or RunOptions()
    checksum = model_checksum(inferencer)
    prints = {case.case_id: case_fingerprint(case, FORMAT, checksum, writer.settings) for case in found.cases}
    summary = SaveSummary(writer.folder, notes=list(found.notes))
    if options.shard is None or options.shard[0] == 0:
        summary.outcomes += [Outcome(f.case_id, FAILED, "", f.reason) for f in found.failures]
    todo = []
    for case in shard_of(found.cases, options.shard):
        if writer.is_current(case.case_id, prints[case.case_id]):
            summary.outcomes.append(Outcome(case.case_id, KEPT, str(writer.path(case.case_id))))
        else:
            _check_owner(writer, case)
            todo.append((case, prints[case.case_id]))
    chunks = [todo[start : start + options.batch_size] for start in range(0, len(todo), options.batch_size)]
    run = partial(_run_chunk, batch_size=options.batch_size, writer=writer, checksum=checksum)
    work = partial(run, inferencer)
    if options.workers > 1 or options.scheduler:
        reopen = _reopen(inferencer)
        if options.scheduler or len(chunks) > 1:  # otherwise run_parallel needs no other process
            work = partial(_in_worker, reopen=reopen, run=run, kind=_kind(inferencer), checksum=checksum)
    results = run_parallel(work, chunks, options.workers, options.scheduler, _names)
    for index, outcomes in tracked(results, len(chunks), inferencer.task, options.progress):
        if isinstance(outcomes, WorkerKilledError):
            reason = str(outcomes)
            outcomes = [Outcome(case.case_id, FAILED, "", reason) for case, _ in chunks[index]]
            for outcome in outcomes:
                writer.discard(outcome.case_id)
        summary.outcomes += outcomes
    order = {case.case_id: number for number, case in enumerate(found.cases)}
    summary.outcomes.sort(key=lambda outcome: order.get(outcome.case_id, len(order)))
    by_id = {outcome.case_id: outcome.state for outcome in summary.outcomes}
    for case in found.cases:
        state = by_id.get(case.case_id) or writer.state_of(case.case_id, prints[case.case_id])
        summary.unfinished += not state
        if state in (DONE, KEPT):
            summary.current.append(writer.path(case.case_id))
    return summary


def _names(chunk: Sequence[tuple[InputCase, str]]) -> str:
    return ("case " if len(chunk) == 1 else "one of the cases ") + ", ".join(case.case_id for case, _ in chunk)


def _check_owner(writer: CaseWriter, case: InputCase) -> None:
    owner, key = writer.owner(case.case_id), case_key(case)
    if owner and owner != key:
        raise CTVLMError(
            f"{writer.path(case.case_id)}: found the result of {owner}; expected {key}: write to another folder, or "
            "process both CTs in one call, which gives them different ids"
        )


def _run_chunk(
    inferencer: Inferencer,
    chunk: Sequence[tuple[InputCase, str]],
    batch_size: int,
    writer: CaseWriter,
    checksum: str,
) -> list[Outcome]:
    """Process cases, each with its fingerprint."""
    outcomes = []
    for index, result in inferencer.stream([case for case, _ in chunk], batch_size):
        case, fingerprint = chunk[index]
        path = writer.path(case.case_id)
        record = dict(
            fingerprint=fingerprint,
            model=checksum,
            ctvlm=code_version(),
            case_id=case.case_id,
            input=case.path,
            key=case_key(case),
        )
        failed = writer.failure_path(case.case_id)
        if isinstance(result, CaseFailure):
            with atomic_write(failed) as part:
                part.write_text(json.dumps({**record, "reason": result.reason}) + "\n", encoding="utf-8")
            if outdated(case) or writer.record(case.case_id).get("model") != checksum:
                writer.discard(case.case_id)
            outcomes.append(Outcome(case.case_id, FAILED, str(failed), result.reason))
        else:
            writer.write(result, path, record)
            failed.unlink(missing_ok=True)
            outcomes.append(Outcome(case.case_id, DONE, str(path)))
    return outcomes


def _reopen(inferencer: Inferencer) -> Callable[[], Inferencer]:
    """A function that opens the same inferencer in another process."""
    if inferencer.opened_with is None:
        raise CTVLMError(
            "several workers or a scheduler need a model that other processes can open; expected a name, a folder, a "
            "config or a checkpoint instead of a module"
        )
    model, checkpoint, device, pipeline = inferencer.opened_with
    return partial(type(inferencer), model, checkpoint, device, pipeline=pipeline)


def _kind(inferencer: Inferencer) -> str:
    return f"{type(inferencer).__module__}.{type(inferencer).__qualname__}"


# The inferencer of a worker process by its class and the checksum of its model.
_OPENED: dict[tuple[str, str], Inferencer] = {}


def _in_worker(
    chunk: Sequence[tuple[InputCase, str]],
    reopen: Callable[[], Inferencer],
    run: Callable[..., list[Outcome]],
    kind: str,
    checksum: str,
) -> list[Outcome]:
    """Process cases in a worker, which opens the model at its first call.

    Raises:
        CTVLMError: the worker opens other weights than the process that started it.
    """
    if (kind, checksum) not in _OPENED:
        opened = reopen()
        found = model_checksum(opened)
        if found != checksum:
            raise CTVLMError(
                f"worker: found a model with checksum {found[:12]}; expected {checksum[:12]}: the files of the model "
                "have changed, or differ between machines"
            )
        _OPENED.clear()
        _OPENED[kind, checksum] = opened
    return run(_OPENED[kind, checksum], chunk)


def _file_name(part: str) -> str:
    """File name of a part of a case id, which may contain any characters and have any length."""
    name = quote(part, safe=" ,()+") or "%"
    if len(name) > 120 or name.strip(". ") != name:
        name = f"{name[:100].strip('. ')}-{hashlib.sha256(part.encode()).hexdigest()[:12]}"
    return name
