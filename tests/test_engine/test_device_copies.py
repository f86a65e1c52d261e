"""The order of copies to a GPU, with a fake GPU: no copy is read before it is complete, and none is waited for."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ctvlm.engine.loading import worker_errors
from ctvlm.engine.loading.device_copies import DeviceCopies, copied_ahead, copies_of, moved
from ctvlm.engine.loading.worker_errors import build_loader
from ctvlm.models.data_preprocessors import CTDataPreprocessor


class Recorded:
    """Copies that record the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, batch):
        self.calls.append(f"start {batch}")
        return f"copy of {batch}"

    def finish(self, batch):
        self.calls.append(f"finish {batch}")


def test_the_following_batch_is_copied_before_a_batch_is_given():
    copies = Recorded()
    for batch in copied_ahead(iter("abc"), copies):
        copies.calls.append(f"train {batch}")
    assert copies.calls == [
        "start a", "finish copy of a", "start b", "train copy of a",
        "finish copy of b", "start c", "train copy of b", "finish copy of c", "train copy of c",
    ]  # fmt: skip
    assert list(copied_ahead(iter(()), copies)) == []


def test_an_error_is_raised_after_the_batches_before_it():
    def batches():
        yield from "ab"
        raise ValueError("case c")

    given = []
    with pytest.raises(ValueError, match="case c"):
        given.extend(copied_ahead(batches(), Recorded()))
    given.clear()
    with pytest.raises(ValueError, match="case c"):
        for batch in copied_ahead(batches(), Recorded()):
            given.append(batch)
    assert given == ["copy of a", "copy of b"]


class FakeStream:
    def __init__(self, calls, name):
        self.calls, self.name = calls, name

    def wait_stream(self, other):
        self.calls.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def gpu(monkeypatch):
    """Streams of a GPU; the copies stay on the CPU."""
    calls = []
    model = FakeStream(calls, "model")

    @contextmanager
    def stream(one):
        calls.append(f"in {one.name}")
        yield
        calls.append("out")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(calls, "copies"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: model)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    record = lambda tensor, one: calls.append(f"{one.name} reads {tuple(tensor.shape)}")  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "record_stream", record)
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda tensor, device, non_blocking: calls.append(f"copy {non_blocking}") or to(tensor, "cpu"),
    )
    return calls


def test_inputs_are_copied_in_a_stream_of_their_own(gpu):
    copies = DeviceCopies(torch.device("cuda"))
    inputs = dict(volume=[torch.ones(1, 2), torch.ones(1, 3)], region_map=[None, torch.ones(4)])
    batch = copies.start(dict(inputs=inputs, data_samples=["host"]))
    assert gpu == ["in copies", *["copy True"] * 3, "out"]
    gpu.clear()
    copies.finish(batch)
    assert gpu == ["model waits for copies", "model reads (1, 2)", "model reads (1, 3)", "model reads (4,)"]
    assert batch["data_samples"] == ["host"] and batch["inputs"]["region_map"][0] is None


def test_which_models_have_copies_ahead(gpu):
    class Model(nn.Module):
        def __init__(self, device="cuda", **options):
            super().__init__()
            self.data_preprocessor = SimpleNamespace(device=torch.device(device), **options)

    assert isinstance(copies_of(Model(by_case=False), 2), DeviceCopies)
    assert copies_of(Model(by_case=False), 0) is None
    assert copies_of(Model(by_case=True), 2) is None  # a batch in chunks may not fit into the memory of the GPU
    assert copies_of(Model("cpu", by_case=False), 2) is None
    assert copies_of(Model(), 2) is None and copies_of(nn.Linear(1, 1), 2) is None


def test_moved_keeps_the_structure():
    value = dict(a=[torch.ones(2), None], b=(1, "x"))
    assert moved(value, torch.device("meta"))["a"][0].is_meta
    assert moved(value, torch.device("cpu"))["b"] == (1, "x")


@pytest.mark.parametrize("apple", [True, False])
def test_the_preprocessor_waits_for_copies_to_apple_gpus_only(monkeypatch, apple):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert CTDataPreprocessor()._non_blocking is not apple


@pytest.mark.parametrize(("gpus", "workers", "pinned"), [(True, 2, True), (True, 0, False), (False, 2, False)])
def test_batches_of_workers_are_pinned_if_there_is_a_gpu(monkeypatch, gpus, workers, pinned):
    monkeypatch.setattr(worker_errors.torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setattr(worker_errors.Runner, "build_dataloader", staticmethod(lambda loader, *args: loader))
    monkeypatch.setattr(worker_errors, "name_cases", lambda loader: loader)
    config = dict(num_workers=workers)
    assert build_loader(config).get("pin_memory", False) is pinned
    assert build_loader(dict(config, pin_memory=False))["pin_memory"] is False


def test_the_host_keeps_the_values_that_are_read_without_a_wait(gpu):
    inputs = {"volume": [torch.zeros(1, 2, 2, 2)], "region_map": None}
    copied = DeviceCopies(torch.device("cpu")).start({"inputs": inputs, "data_samples": ["case"]})
    assert copied["host_inputs"] is inputs
    assert copied["data_samples"] == ["case"]
