from __future__ import annotations

import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from ctvlm.engine import run_tool, user_message
from ctvlm.engine.optim.bfloat16_optim_wrapper import BFloat16OptimWrapper
from ctvlm.registry import ATTENTION, BACKBONES, HOOKS, LOSSES
from ctvlm.utils import CTVLMError


def catch(function, *args, **kwargs) -> Exception:
    with pytest.raises(Exception) as info:
        function(*args, **kwargs)
    return info.value


def test_unknown_component():
    message = user_message(catch(HOOKS.build, {"type": "RichProgresHook"}))
    assert "'RichProgresHook'" in message and "RichProgressHook" in message
    assert "EpochSeedHook" in message and "CheckpointHook" in message  # of ctvlm and mmengine
    assert "custom_imports" in message


def test_component_of_another_kind():
    @LOSSES.register_module(name="MisplacedLoss", force=True)
    class MisplacedLoss:
        pass

    try:
        message = user_message(catch(BACKBONES.build, {"type": "MisplacedLoss"}))
    finally:
        del LOSSES.module_dict["MisplacedLoss"]
    assert "'MisplacedLoss'" in message and "backbone" in message and "loss;" in message


def test_wrong_argument_is_a_user_error_and_a_type_error_inside_is_a_bug():
    @ATTENTION.register_module(name="Fussy", force=True)
    class Fussy:
        def __init__(self, size):
            len(size)

    try:
        assert "'sise'" in user_message(catch(ATTENTION.build, {"type": "Fussy", "sise": 1}))
        assert user_message(catch(ATTENTION.build, {"type": "Fussy", "size": 1})) is None
    finally:
        del ATTENTION.module_dict["Fussy"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyError("bug"), AssertionError("bug"), ValueError("")])
def test_bugs_have_no_message(error):
    assert user_message(error) is None


def test_system_errors_contain_the_file(tmp_path):
    assert user_message(catch(open, tmp_path / "x")) == f"No such file or directory: {tmp_path / 'x'}"


class FailingDataset(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("case 7: volume is 3x4,\nexpected 4x4")


def test_error_of_a_data_worker_has_no_traceback():
    error = catch(list, DataLoader(FailingDataset(), num_workers=1))
    assert "Original Traceback" in str(error)
    assert user_message(error) == "case 7: volume is 3x4,\nexpected 4x4"


def fail(error):
    def main():
        raise error

    return main


def test_exit_codes(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool"])
    monkeypatch.delenv("CTVLM_DEBUG", raising=False)
    assert run_tool(lambda: None) == 0
    assert run_tool(fail(KeyboardInterrupt())) == 130
    assert run_tool(fail(CTVLMError("patch size 16 does not divide 30"))) == 2
    assert "error: patch size 16 does not divide 30\n" in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        run_tool(fail(RuntimeError("bug")))


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])
    monkeypatch.setenv("CTVLM_DEBUG", "0")  # restored afterwards
    with pytest.raises(CTVLMError):
        run_tool(fail(CTVLMError("x")))


def test_wrapper_is_registered():
    from ctvlm.registry import OPTIM_WRAPPERS

    assert OPTIM_WRAPPERS.get("BFloat16OptimWrapper") is BFloat16OptimWrapper
