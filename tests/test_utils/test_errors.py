"""Errors keep their type, message and attributes between processes."""

from __future__ import annotations

import importlib
import pickle
import pkgutil

import pytest
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset

import ctvlm
from ctvlm.utils import CTVLMError
from ctvlm.utils.worker_text import worker_message
from ctvlm.volume import CTReadError

for module in pkgutil.walk_packages(ctvlm.__path__, "ctvlm."):
    if module.name.rpartition(".")[2] not in ("__main__",):
        try:
            importlib.import_module(module.name)
        except ImportError:  # an optional package is not installed
            continue


def kinds(base: type) -> list[type]:
    found = {kind for child in base.__subclasses__() for kind in [child, *kinds(child)]}
    return sorted((kind for kind in found if kind.__module__.startswith("ctvlm")), key=lambda kind: kind.__name__)


class TwoArguments(CTVLMError):
    def __init__(self, file, number):
        self.file = file
        super().__init__(f"{file}: found {number}")


def in_worker(error: Exception) -> Exception:
    """The error that the main process gets if a data worker raises ``error``."""
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise error from cause
    except Exception:
        wrapped = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker process 0")))  # noqa: S301
    with pytest.raises(Exception) as info:
        wrapped.reraise()
    return info.value


def test_all_errors_are_found():
    names = {kind.__name__ for kind in kinds(CTVLMError)}
    assert {"CheckpointError", "ConfigError", "CTReadError", "ManifestError", "UnknownLabelError"} <= names
    assert {"ConversionError", "TableError", "MaskMismatchError", "NonFiniteError", "WorkerKilledError"} <= names


@pytest.mark.parametrize("kind", kinds(CTVLMError), ids=lambda kind: kind.__name__)
def test_errors_are_pickled_and_pass_a_data_worker(kind):
    message = "case c7 (/data/c7.nii.gz): found 3; expected 4"
    error = kind(message)
    error.log_file = "run.log"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind and str(again) == str(error) == message and again.log_file == "run.log"
    passed = in_worker(kind(message))
    assert type(passed) is kind and str(passed) == message


def test_errors_with_several_arguments():
    error = pickle.loads(pickle.dumps(TwoArguments("a.nii", 3)))  # noqa: S301
    assert type(error) is TwoArguments and str(error) == "a.nii: found 3" and error.file == "a.nii"
    error = CTReadError("a.nii", "x", "y", "z")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (again.path, again.found, again.expected, again.action) == ("a.nii", "x", "y", "z")
    passed = in_worker(error)
    assert type(passed) is CTReadError and str(passed) == str(error) == "a.nii: found x; expected y. Z."


class Failing(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise CTReadError("a.nii", "x", "y", "z")


def test_data_loader_gives_the_message():
    with pytest.raises(CTReadError) as info:
        list(DataLoader(Failing(), num_workers=1))
    assert str(info.value) == "a.nii: found x; expected y. Z."


@pytest.mark.parametrize("message", ["one line", "two\nlines", "a: b", "KeyError: x", "", "Traceback: no"])
def test_message_of_foreign_exceptions(message):
    passed = in_worker(ValueError(message))
    assert worker_message(str(passed)) == (message or "ValueError")
    assert worker_message(message) == message
