"""Predictions of a model on a manifest, or on the test data of a config, in the form of a dump."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.data import DataLoader

from ctvlm.anatomy import DEFAULT_SCHEME
from ctvlm.apis.case_reader import CaseReader
from ctvlm.datasets.manifest import read_manifest
from ctvlm.datasets.measured_reasoning import MeasuredReasoning
from ctvlm.datasets.training_text import NO_TEXT, text_source, with_steps
from ctvlm.datasets.transforms import LoadCT
from ctvlm.engine.cli.dump_metrics import finding_names
from ctvlm.engine.hooks.fit_tokenizer_hook import collect_texts
from ctvlm.engine.loading.worker_errors import build_loader
from ctvlm.evaluation import needed_keys
from ctvlm.evaluation.dump import encode_case
from ctvlm.models.backbones import PretrainedTower
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import KEY as PRETRAINED_FILES
from ctvlm.utils.training_data import PHANTOMS_ONLY, only_phantoms

RANDOM_WEIGHTS = "random weights: no score is meaningful"
RANDOM_EXCEPT_TOWER = "random weights except the tower: no score is meaningful"
OTHER_TOWER = "these weights were trained on a tower without published weights: no score is that of the published model"
OTHER_TOWER_PHANTOMS = OTHER_TOWER.replace("trained on", "trained on phantoms only and on")
_ALWAYS = frozenset({"case_id", "patient_id", "evaluation_set", "labels_source"})
_PROMPTS = 32  # texts that are embedded at a time


@dataclass(frozen=True)
class EvaluationData:
    """Cases that several models are evaluated on.

    Args:
        cases: of a manifest; each model reads them with the test pipeline of its own config.
        cfg: config whose test data are used with their own pipeline; for example phantoms.
    """

    cases: Sequence[dict] = ()
    cfg: Config | None = None

    @classmethod
    def of_manifest(
        cls, path: str | Path, split: str | None, allow_outside: bool = False, measure_text: bool = False
    ) -> EvaluationData:
        """Cases of one split; None: all. ``allow_outside`` and errors as ``read_manifest``.

        Args:
            measure_text: cases without text get text that is measured from CT and masks, with ctvlm's region scheme.
        """
        cases = read_manifest(path, split, allow_outside=allow_outside)
        return cls(cases=[_measured(case) for case in cases] if measure_text else cases)

    @classmethod
    def of_config(cls, cfg: Config) -> EvaluationData:
        """The test data of a config.

        Raises:
            CTVLMError: the config has no ``test_dataloader``.
        """
        if cfg.get("test_dataloader") is None:
            raise CTVLMError(f"config {cfg.filename}: found no test_dataloader; expected the cases to evaluate on")
        return cls(cfg=cfg)

    @cached_property
    def _loader(self) -> DataLoader:
        if self.cfg is None:
            raise ValueError("a manifest has no data loader")
        init_default_scope(self.cfg.get("default_scope", "ctvlm"))
        return build_loader(self.cfg.test_dataloader)

    def texts(self) -> list[str]:
        """Impressions and steps of all cases."""
        if self.cfg is not None:
            return collect_texts(self._loader.dataset)
        cases = [with_steps(case) for case in self.cases]
        texts = [text for case in cases for text in (case["report"].get("impression"), *_step_texts(case))]
        return [text for text in texts if text]

    def batches(self, model: Any) -> Iterator[dict[str, Any]]:
        """Collated cases: single cases of a manifest, batches of a config."""
        if self.cfg is not None:
            self._check_regions(model)
            yield from self._loader
            return
        read = CaseReader(model.cfg)
        for case in self.cases:
            # The pipeline of a model measures no text: all models must be compared on the same texts.
            yield pseudo_collate([read.read_case(with_steps(case, read.scheme.reference)).packed])

    def _check_regions(self, model: Any) -> None:
        """Raise a CTVLMError if the region maps of the config have other regions than the model."""
        expected = (getattr(self._loader.dataset, "metainfo", None) or {}).get("regions")
        regions = getattr(getattr(model, "backbone", None), "num_regions", None)
        if expected and regions is not None and len(expected) != regions:
            raise CTVLMError(
                f"model of config {model.cfg.filename}: found {regions} regions; expected {len(expected)}, those of "
                "the data. Use a manifest, whose region maps each model folds to its own regions"
            )


@torch.no_grad()
def predict_cases(
    model: Any,
    batches: Iterable[dict[str, Any]],
    metrics_of: Callable[[list[str] | None], Sequence[BaseMetric]],
) -> dict[str, Any]:
    """Arguments of ``save_dump``: ``cases``, ``prompts``, ``scale`` and ``remark``.

    Args:
        model: of ``init_model``.
        batches: see ``EvaluationData.batches``.
        metrics_of: metrics for the findings that have labels (None: no labels). What they read is kept.
    """
    keys = needed_keys(metrics_of(None))
    wanted = None if keys is None else keys | _ALWAYS
    if hasattr(model, "set_predictions"):
        model.set_predictions(keys)
    cases: list[dict[str, Any]] = []
    for batch in batches:
        for sample in model.test_step(batch):
            values = sample.to_dict() if hasattr(sample, "to_dict") else sample
            cases.append(encode_case({key: value for key, value in values.items() if wanted is None or key in wanted}))
    names = finding_names(cases)
    texts = [text for metric in metrics_of(names) if hasattr(metric, "prompts") for text in metric.prompts()]
    prompts = _embedded(model, list(dict.fromkeys(texts)) if names else [])
    scale = model.logit_scale() if hasattr(model, "logit_scale") else 1.0
    return dict(cases=cases, prompts=prompts, scale=float(scale), remark=weights_remark(model))


def _measured(case: dict) -> dict:
    """A case with measured text if it has none."""
    if text_source(case) != NO_TEXT:
        return case
    described = MeasuredReasoning()(LoadCT()({**case, "scheme": DEFAULT_SCHEME}))
    return {**case, "report": described["report"], "cot": described["cot"]}


def fit_missing_tokenizer(model: Any, texts: Callable[[], list[str]]) -> None:
    """Fit the tokenizer of a model with random weights, which has none: its text embeddings then are random vectors.

    Raises:
        CTVLMError: the model has no tokenizer, but weights from a training.
    """
    if not (hasattr(model, "needs_tokenizer") and model.needs_tokenizer()):
        return
    if model.training_data:
        raise CTVLMError(
            f"config {model.cfg.filename}: found weights without the tokenizer that they were trained with"
        )
    model.fit_tokenizer(texts())


def weights_remark(model: nn.Module) -> str:
    """Warning about random weights, weights of phantoms only, or a tower without its published weights; else ""."""
    records: Any = getattr(model, "training_data", [])
    backbone = getattr(model, "backbone", None)
    tower = backbone if isinstance(backbone, PretrainedTower) else None
    published = tower is not None and hasattr(tower, PRETRAINED_FILES)
    if not records:
        return RANDOM_EXCEPT_TOWER if published else RANDOM_WEIGHTS
    if tower is not None and tower.trained != "full" and not published:
        return OTHER_TOWER_PHANTOMS if only_phantoms(records) else OTHER_TOWER
    return PHANTOMS_ONLY if only_phantoms(records) else ""


def embedding_call(model: Any, batch: Mapping[str, Any]) -> tuple[Callable[[], object], tuple[int, int, int]]:
    """A call that computes the volume embedding of the first case of a batch, and the shape of its input."""
    data: dict[str, Any] = model.data_preprocessor(dict(batch), False)
    inputs: dict[str, Any] = {name: None if value is None else value[:1] for name, value in data["inputs"].items()}
    shape = tuple(int(n) for n in inputs["volume"].shape[-3:])
    return lambda: model.context(inputs).volume_BP, shape  # type: ignore[return-value]


def _step_texts(case: dict) -> list[str]:
    return [step["text"] for step in case.get("cot") or ()]


def _embedded(model: Any, texts: list[str]) -> dict[str, torch.Tensor]:
    if not texts or not hasattr(model, "embed_texts"):
        return {}
    parts = [model.embed_texts(texts[i : i + _PROMPTS]).float().cpu() for i in range(0, len(texts), _PROMPTS)]
    return dict(zip(texts, torch.cat(parts), strict=True))
