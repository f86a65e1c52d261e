"""Learned scores of generated reports: adapters to packages with their own models.

A package is imported when its scorer is built. It loads its weights from the Hugging Face cache, and downloads them on
first use unless HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ctvlm.registry import REPORT_SCORERS
from ctvlm.utils import CTVLMError, MissingPackageError


class ReportScorer(ABC):
    """Base class of adapters to learned scores.

    Args:
        kwargs: arguments of ``load``, by default those of the package's constructor.

    Raises:
        MissingPackageError: the package is not installed.
        CTVLMError: the model cannot be loaded, for example because its weights are missing.
    """

    # Key of the results, module to import, and installation command.
    name: str
    module: str
    install: str

    def __init__(self, **kwargs: Any):
        try:
            module = importlib.import_module(self.module)
        except ImportError:
            raise MissingPackageError(
                f"{self.name}: {self.module} is not installed. To install it: {self.install}"
            ) from None
        try:
            self.model = self.load(module, **kwargs)
        except Exception as error:  # the packages and their dependencies raise their own types
            reason = " ".join(str(error).split())[:200]
            raise CTVLMError(f"{self.name}: cannot load the weights ({type(error).__name__}: {reason})") from error

    @abstractmethod
    def load(self, module: ModuleType, **kwargs: Any) -> Any:
        """Build the package's scorer."""

    @abstractmethod
    def score(self, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Compute the score of each report (N); larger is better."""


@REPORT_SCORERS.register_module()
class RaTEScore(ReportScorer):
    """RaTEScore (Zhao et al., EMNLP 2024): similarity of medical entities."""

    name, module, install = "RaTEScore", "RaTEScore", "pip install 'ctvlm[ratescore]'"

    def load(self, module: ModuleType, **kwargs: Any) -> Any:
        return module.RaTEScore(**kwargs)

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return np.asarray(self.model.compute_score(list(predictions), list(references)), dtype=np.float64)


@REPORT_SCORERS.register_module()
class RadGraphF1(ReportScorer):
    """RadGraph-F1 (Delbrouck et al., Findings of EMNLP 2022): overlap of entities, partial reward level by default."""

    name, module, install = "RadGraph-F1", "radgraph", "pip install 'ctvlm[radgraph]'"

    def load(self, module: ModuleType, **kwargs: Any) -> Any:
        return module.F1RadGraph(**{"reward_level": "partial", **kwargs})

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return np.asarray(self.model(hyps=list(predictions), refs=list(references))[1], dtype=np.float64)


@REPORT_SCORERS.register_module()
class BERTScore(ReportScorer):
    """F1 of BERTScore (Zhang et al., ICLR 2020)."""

    name, module, install = "BERTScore", "bert_score", "pip install 'ctvlm[bertscore]'"

    def load(self, module: ModuleType, **kwargs: Any) -> Any:
        return module.BERTScorer(**{"lang": "en", **kwargs})

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return self.model.score(list(predictions), list(references))[2].double().cpu().numpy()


@REPORT_SCORERS.register_module()
class GREEN(ReportScorer):
    """GREEN (Ostmeier et al., Findings of EMNLP 2024): a language model counts errors. Not on PyPI.

    Of the scores compared by CTest-Metric (arXiv 2601.11488), it has the highest correlation with expert ratings.
    """

    name, module, install = "GREEN", "green_score", "see github.com/Stanford-AIMI/GREEN"

    def load(self, module: ModuleType, **kwargs: Any) -> Any:
        return module.GREEN(**{"model_name": "StanfordAIMI/GREEN-radllama2-7b", "output_dir": ".", **kwargs})

    def score(self, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return np.asarray(self.model(list(references), list(predictions))[2], dtype=np.float64)
