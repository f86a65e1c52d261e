"""Base class of the inferencers: model, case input, batches, progress."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from mmengine.dataset import pseudo_collate
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from ctvlm.apis.case_input import CaseFailure, CaseInputs, InputCase, Inputs, Mask, Volume, find_cases
from ctvlm.apis.case_reader import CaseReader, ReadCase
from ctvlm.apis.init_model import ModelSource, init_model
from ctvlm.engine.loading.case_fetcher import case_error
from ctvlm.models.objectives import BatchContext
from ctvlm.utils import CTVLMError
from ctvlm.utils.terminal_text import printable
from ctvlm.utils.training_data import PHANTOMS_ONLY, only_phantoms
from ctvlm.volume import CTVolume, patch_grid_affine

Result = TypeVar("Result")
Item = TypeVar("Item")
# Errors of reading one case. An error of the model is not caught.
READ_ERRORS = (ValueError, OSError, ImportError)


class UnsupportedTaskError(CTVLMError):
    """The model has no head for the task of an inferencer."""


@dataclass
class RunResult(Generic[Result]):
    """Results of many cases in the order of the input.

    Attributes:
        results: of the cases that could be read.
        failures: the other cases, with reasons.
        notes: remarks on whole folders.
    """

    results: list[Result] = field(default_factory=list)
    failures: list[CaseFailure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Exit status for a command: 1 if a case failed, else 0."""
        return int(bool(self.failures))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return dict(
            results=[result.to_dict() for result in self.results],  # type: ignore[attr-defined]
            failures=[failure.to_dict() for failure in self.failures],
            notes=self.notes,
        )


class Inferencer(ABC, Generic[Result]):
    """A task on CTs with a trained model. Subclasses implement ``predict``.

    Args:
        model: what ``init_model`` accepts, or a model that it returned.
        checkpoint: see ``init_model``.
        device: see ``init_model``; a built model is moved to it.
        pipeline: transforms between reading and packing; None uses those of the config's test data.

    Raises:
        ConfigError, CheckpointError: as ``init_model`` and CaseReader.
        ValueError: a model that was not built by ``init_model``.
    """

    task = "cases"  # description of the progress bar

    def __init__(
        self,
        model: ModelSource | nn.Module | None = None,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        pipeline: Sequence[dict | Callable] | None = None,
    ) -> None:
        if isinstance(model, nn.Module):
            self.model: Any = model if device is None else model.to(device)
        else:
            self.model = init_model(model, checkpoint, device)
        if not hasattr(self.model, "cfg"):
            raise ValueError(f"{type(self.model).__name__} has no attribute cfg: use ctvlm.apis.init_model")
        self.pipeline = pipeline
        self.read = CaseReader(self.model.cfg, pipeline)
        # To open the same model in another process.
        self.opened_with = None if isinstance(model, nn.Module) else (model, checkpoint, device, pipeline)

    def __call__(self, volume: Volume, mask: Mask | None = None, mask_source: str | None = None) -> Result:
        """Result of one CT. Arguments and errors are those of ``CaseReader.__call__``."""
        return self.predict([self.read(volume, mask, mask_source)])[0]

    @abstractmethod
    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[Result]:
        """Results of cases with equal input shape. ``context``: views of these cases, if they are known already."""

    def run(
        self,
        inputs: Inputs,
        mask: Mask | Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        batch_size: int = 4,
        progress: bool = False,
        **options: Any,
    ) -> RunResult[Result]:
        """Results of all cases of an input. A case that cannot be read is reported, and the others continue.

        Args:
            inputs, mask, mask_source, options: see ``find_cases``.
            batch_size: cases that the model processes at a time. All have the same input shape, so a batch may be
                smaller.
            progress: show a progress bar on a terminal, on standard error.

        Raises:
            The error of the case if the input is a single case; errors of ``find_cases``.
        """
        found = self.find(inputs, mask, mask_source, **options)
        out: RunResult[Result] = RunResult(failures=list(found.failures), notes=list(found.notes))
        results: dict[int, Result] = {}
        stream = self.stream(found.cases, batch_size, reraise=len(found.cases) == 1 and not found.failures)
        for index, result in tracked(stream, len(found.cases), self.task, progress):
            if isinstance(result, CaseFailure):
                out.failures.append(result)
            else:
                results[index] = result
        out.results = [results[index] for index in sorted(results)]
        return out

    def find(
        self,
        inputs: Inputs,
        mask: Mask | Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        **options: Any,
    ) -> CaseInputs:
        """``find_cases`` with the region scheme of the model."""
        return find_cases(inputs, mask, mask_source, scheme=self.read.scheme, **options)

    def stream(
        self, cases: Iterable[InputCase], batch_size: int = 4, reraise: bool = False
    ) -> Iterator[tuple[int, Result | CaseFailure]]:
        """Yield (index of the case, result). Consecutive cases with equal input shape form a batch.

        Args:
            reraise: raise the error of a case instead of yielding a CaseFailure.

        Raises:
            RuntimeError, CaseError: a transform of the pipeline has a fault, or memory is full; with the case.
        """
        batch: list[tuple[int, ReadCase]] = []
        for index, case in enumerate(cases):
            try:
                read = self.read.read_case(case.entry)
            except READ_ERRORS as error:
                if reraise:
                    raise
                yield index, CaseFailure(case.case_id, case.path, " ".join(str(error).split()))
                continue
            except Exception as error:  # a fault of the code, or not enough memory
                raise case_error(error, f"case {printable(case.case_id)} ({printable(case.path)})") from error
            if batch and (len(batch) == batch_size or read.shape != batch[0][1].shape):
                yield from self._results(batch)
                batch = []
            batch.append((index, read))
        if batch:
            yield from self._results(batch)

    def _results(self, batch: list[tuple[int, ReadCase]]) -> Iterator[tuple[int, Result]]:
        results = self.predict([read for _, read in batch])
        yield from zip([index for index, _ in batch], results, strict=True)

    def inputs(self, cases: Sequence[ReadCase]) -> dict[str, Tensor | None]:
        """Collate cases to the input of ``model.encode``, on the device of the model."""
        return self._batch(cases)["inputs"]

    def context(self, cases: Sequence[ReadCase]) -> BatchContext:
        """Lazy views of cases with equal input shape, which several inferencers of one model can share."""
        batch = self._batch(cases)
        return self.model.context(batch["inputs"], batch["data_samples"])

    def _batch(self, cases: Sequence[ReadCase]) -> dict[str, Any]:
        return self.model.data_preprocessor(pseudo_collate([case.packed for case in cases]))

    def text_attention(self, context: BatchContext, case: int, texts: Sequence[str]) -> Tensor:
        """Attention of texts over the patches of one case (len(texts), N), as in training; rows sum to 1."""
        if not texts:
            return torch.zeros(0, context.patch_BNP.shape[1])
        text_1SP = self.model.embed_texts(list(texts))[None]
        mask_1N = context.encoded.token_mask[case : case + 1]
        return self.model.space.step_attention(text_1SP, context.patch_BNP[case : case + 1], mask_1N)[0].float().cpu()

    def attention_map(self, context: BatchContext, case: int, read: ReadCase, attention_N: Tensor) -> CTVolume:
        """Attention on the patch grid, relative to its mean over the patches that the encoder has not dropped."""
        grid = context.encoded.grid
        relative_N = attention_N * int(context.encoded.token_mask[case].sum())
        return CTVolume(relative_N.reshape(grid).numpy(), patch_grid_affine(read.affine, read.shape, grid))

    def remark_on(self, case: Any) -> str:
        """Warning if the CT is real and the weights were trained on phantoms only; otherwise an empty string."""
        trained_on = getattr(self.model, "training_data", [])
        return PHANTOMS_ONLY if not case.synthetic and only_phantoms(trained_on) else ""


def tracked(items: Iterable[Item], total: int, description: str, enabled: bool) -> Iterator[Item]:
    """Iterate with a progress bar on standard error, if ``enabled`` and it is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (enabled and console.is_terminal)) as bar:
        yield from bar.track(items, total, description=description)
