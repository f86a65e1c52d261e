"""Vectors of a data set in which some cases fail, hang or end their process."""

from __future__ import annotations

import os
import signal
import time

import torch
from mmengine.dataset import BaseDataset

from ctvlm.registry import DATASETS
from ctvlm.utils import CTVLMError
from ctvlm.utils.bad_cases import ReplacesBadCases
from ctvlm.volume import CTReadError


class TwoArgumentsError(CTVLMError):
    """An error of a plugin."""

    def __init__(self, file: str, number: int) -> None:
        super().__init__(f"{file}: found {number}")


def fail(how: str, path: str) -> None:
    """Fail in one of several ways."""
    if how == "read":
        raise CTReadError(path, "a torn file", "a CT", "copy it again")
    if how == "os":
        open(path).close()
    if how == "plugin":
        raise TwoArgumentsError(path, 3)
    if how == "value":
        raise ValueError("shape (3,),\nexpected (4,)")
    if how == "type":
        len(3)  # type: ignore[arg-type]
    if how == "hang":
        time.sleep(600)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


@DATASETS.register_module(force=True)
class BadData(ReplacesBadCases, BaseDataset):
    """Vectors and their sums; ``bad`` gives the way in which a case fails, by its number."""

    def __init__(self, length=24, bad=None, bad_cases="raise", max_bad_cases=0.5, **kwargs):
        self.length, self.bad = length, {int(number): how for number, how in (bad or {}).items()}
        self.set_bad_cases(bad_cases, max_bad_cases, kwargs.get("test_mode", False))
        super().__init__(**kwargs)

    def load_data_list(self):
        return [
            dict(case_id=f"c{i}", volume=dict(path=f"/data/c{i}.nii.gz"), how=self.bad.get(i, ""))
            for i in range(self.length)
        ]

    def load_case(self, idx):
        info = self.get_data_info(idx)
        fail(info["how"], info["volume"]["path"])
        x = torch.full((8,), float(idx)) / 10
        return {"inputs": x, "data_samples": x.sum()[None]}

    def texts(self):
        return [f"case {i}" for i in range(self.length)]
