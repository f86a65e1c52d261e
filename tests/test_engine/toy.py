"""A small model, data set and metric that train in a second, for tests of the engine."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from ctvlm.registry import DATASETS, METRICS, MODELS
from ctvlm.utils.stop_signals import stop_requested


@DATASETS.register_module(force=True)
class ToyDataset(Dataset):
    """Random vectors and their sums. Augmentation draws from the three global generators."""

    metainfo = {}

    def __init__(self, length: int = 24, augment: bool = False, fail_with: str | None = None):
        self.inputs = torch.randn(length, 8, generator=torch.Generator().manual_seed(1))
        self.augment = augment
        self.fail_with = fail_with

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        if self.fail_with:
            raise ValueError(self.fail_with)
        x = self.inputs[index]
        noise = torch.zeros(8)
        if self.augment:
            noise = torch.from_numpy(np.random.normal(size=8)).float() + random.random() + torch.rand(8)  # noqa: NPY002
        return {"inputs": x + 0.1 * noise, "data_samples": x.sum()[None]}

    def texts(self):
        return [f"case {i}" for i in range(len(self))]


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Two layers with dropout, and a fake tokenizer.

    Args:
        hold_at: in this step of the process, all ranks wait until one of them is asked to stop, and then makes the file
            ``hold_file``. So a test can wait for a file of an earlier step, and then send a signal, however slow it is.
    """

    def __init__(
        self,
        width: int = 16,
        crash_at_epoch: int | None = None,
        crash_on_rank: int | None = None,
        hang_on_rank: int | None = None,
        seconds: float = 0.0,
        hold_at: int | None = None,
        hold_file: str | None = None,
        unused: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.crash_on_rank, self.hang_on_rank = crash_on_rank, hang_on_rank
        self.hold_at, self.hold_file = hold_at, hold_file
        self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.unused = nn.Linear(2, 2) if unused else None
        self.register_buffer("tokenizer_bytes", torch.empty(0, dtype=torch.uint8))
        self.crash_at_epoch, self.seconds, self.steps = crash_at_epoch, seconds, 0

    def needs_tokenizer(self):
        return self.tokenizer_bytes.numel() == 0

    def fit_tokenizer(self, texts):
        self.load_tokenizer_state(f"{len(texts)} texts")

    def tokenizer_state(self):
        return bytes(self.tokenizer_bytes.tolist()).decode()

    def load_tokenizer_state(self, state):
        self.tokenizer_bytes = torch.tensor(list(state.encode()), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        self.tokenizer_bytes = state_dict.get(prefix + "tokenizer_bytes", self.tokenizer_bytes).clone()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x, y = torch.stack(list(inputs)), torch.stack(list(data_samples))
        prediction = self.net(x)
        if mode == "loss":
            time.sleep(self.seconds)
            self.steps += 1
            if self.crash_on_rank is not None and get_rank() == self.crash_on_rank and self.steps == 2:
                raise RuntimeError("this rank fails")
            if self.hang_on_rank is not None and get_rank() == self.hang_on_rank and self.steps == 2:
                time.sleep(1500)
            if self.steps == self.hold_at:
                self._hold(Path(self.hold_file))
            if self.crash_at_epoch is not None and self.steps > self.crash_at_epoch * 3 + 1:
                raise RuntimeError("killed")
            self.dtype_seen = prediction.dtype
            error = (prediction.float() - y) ** 2
            return {"loss_square": error.mean(), "loss_abs": 0.1 * error.sqrt().mean()}
        return [{"error": float((p - t).abs())} for p, t in zip(prediction, y)]

    def _hold(self, file):
        end = time.monotonic() + 1500  # if the test has failed
        while not file.exists() and time.monotonic() < end:
            if stop_requested():
                file.touch()
            time.sleep(0.05)


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    """Mean absolute error."""

    default_prefix = "toy"

    def process(self, data_batch, data_samples):
        self.results += [sample["error"] for sample in data_samples]

    def compute_metrics(self, results):
        return {"error": np.mean(results), "error_chance": 2.0, "num_cases": len(results)}
